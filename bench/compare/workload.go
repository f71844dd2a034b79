package compare

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/plugbus/plugbus"
)

// A Workload is work that this project and its peers do in turn.
type Workload struct {
	// Name says what is measured, then the dimensions as key=value, with slashes
	// between, such as "store/set/writers=64". No two workloads share one.
	Name string

	// Ours is this project, and Peers are what it is compared with, at least one.
	Ours  Side
	Peers []Peer
}

// A Side does the work of a workload.
type Side struct {
	// Name names the side in the report. No two sides of a workload share one.
	Name string

	// Guarantees says what holds when the work is done. Sides of one name, also of
	// several workloads, guarantee the same.
	Guarantees string

	// Acts is how many acts a round has, at least one. Figures are for one act, so a
	// slow side may have fewer.
	Acts int

	// Prepare makes what all rounds need. The directory is empty, belongs to the side,
	// and is removed after the trial was closed.
	Prepare func(dir string) (*Trial, error)

	// Bound stands in for Prepare and Acts at a peer that does no work: a fixed time
	// for each act.
	Bound time.Duration
}

// A Peer is a side that ours is compared with.
type Peer struct {
	Side

	// Limit is how many times as long as the peer ours may take at most. If zero,
	// there is no limit.
	Limit float64
}

// A Trial is a side at work.
type Trial struct {
	// Round does the work once, and checks that it was done. It calls measure once,
	// with the part that counts.
	Round func(measure Measure) error

	// Close ends the trial. It may be nil.
	Close func() error
}

// A Measure runs work, measures it, and returns its error.
type Measure func(work func() error) error

// sides returns ours and then the peers.
func (w *Workload) sides() []Side {
	sides := []Side{w.Ours}
	for _, peer := range w.Peers {
		sides = append(sides, peer.Side)
	}
	return sides
}

// check reports every mistake in the workloads.
func check(workloads []Workload) error {
	var errs []error
	mistake := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	names := make(map[string]bool)
	guarantees := make(map[string]string)
	for _, w := range workloads {
		if w.Name == "" || names[w.Name] {
			mistake("a workload has the name %q; expected one of its own", w.Name)
		}
		names[w.Name] = true
		if len(w.Peers) == 0 {
			mistake("workload %q has no peers; expected at least one", w.Name)
		}
		if w.Ours.Bound != 0 {
			mistake("workload %q has a bound for ours; expected work", w.Name)
		}
		for _, p := range w.Peers {
			if p.Limit < 0 || math.IsNaN(p.Limit) || math.IsInf(p.Limit, 0) {
				mistake("workload %q, side %q: Limit is %v; expected more than 0, or 0 for none", w.Name, p.Name, p.Limit)
			}
		}
		sides := make(map[string]bool)
		for _, s := range w.sides() {
			if s.Name == "" || sides[s.Name] {
				mistake("workload %q: a side has the name %q; expected one of its own", w.Name, s.Name)
			}
			sides[s.Name] = true
			if known, ok := guarantees[s.Name]; s.Guarantees == "" || ok && known != s.Guarantees {
				mistake("workload %q, side %q: Guarantees is %q; expected a text, the same wherever the side appears", w.Name, s.Name, s.Guarantees)
			}
			guarantees[s.Name] = s.Guarantees
			works := s.Prepare != nil && s.Acts > 0 && s.Bound == 0
			bounds := s.Prepare == nil && s.Acts == 0 && s.Bound > 0
			if !works && !bounds {
				mistake("workload %q, side %q: expected Prepare and Acts, or Bound, and nothing negative", w.Name, s.Name)
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("compare: %w: %w", plugbus.ErrInvalid, errors.Join(errs...))
	}
	return nil
}
