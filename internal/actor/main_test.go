package actor_test

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/plugbus/plugbus/internal/actor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A work is a source that does what the function does.
type work func() (more bool)

func (w work) Work() bool { return w() }

// jobs is a source that counts down what was given to it, one at a time.
type jobs struct {
	waiting atomic.Int64
	done    atomic.Int64
	each    func() // called for each job; may be nil
}

func (j *jobs) Work() (more bool) {
	if j.waiting.Load() == 0 {
		return false
	}
	if j.each != nil {
		j.each()
	}
	j.done.Add(1)
	return j.waiting.Add(-1) > 0
}

// give gives n jobs to the source of that number, and wakes the actor.
func (j *jobs) give(a *actor.Actor, source int, n int64) {
	j.waiting.Add(n)
	if a.Signal(source) {
		a.Wake()
	}
}
