package discovery_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

func newHeld(t testing.TB, x *discovery.Index, id string) *discovery.Client { //nolint:unparam // It says whose it is.
	t.Helper()
	c, err := x.Client(id, discovery.ClientOptions{Held: true, Version: "2.0.0", MaxCapabilities: 3})
	require.NoError(t, err)
	return c
}

// TestSucceed puts one client in the place of another: what both provide is never absent
// from what others find, what only one provides comes and goes with it, and each checks
// by its own schemas what it serves.
func TestSucceed(t *testing.T) {
	x, err := discovery.New(discovery.Options{})
	require.NoError(t, err)
	asker, old := newClient(t, x, "asker", nil), newClient(t, x, "p", nil)
	text, number := json.RawMessage(`{"type": "string"}`), json.RawMessage(`{"type": "number"}`)
	provide(t, old, discovery.Capability{Name: "both", Input: text, Output: text}, discovery.Capability{Name: "was", Categories: []string{"c"}})
	for range 30 {
		x.Observe(discovery.Sample{Provider: "p", Capability: "both", Caller: "asker", OK: true, Took: 1})
	}
	next := newHeld(t, x, "p")
	provide(t, next, discovery.Capability{Name: "both", Input: number, Output: number}, discovery.Capability{Name: "is", Categories: []string{"c"}}, discovery.Capability{Name: "not"})
	require.ErrorIs(t, next.Provide(discovery.Capability{Name: "fourth"}), plugbus.ErrDenied, "the quota holds at once")
	require.NoError(t, next.Withdraw("not"))
	own, ok := next.Capability("p", "is")
	require.True(t, ok)
	require.Equal(t, "2.0.0", own.Version)
	require.True(t, next.MayCall("p", "is"))
	require.Empty(t, find(t, asker, requiring("is")))
	_, ok = asker.Capability("p", "is")
	require.False(t, ok)
	require.Len(t, find(t, asker, requiring("both", "was")), 1)
	require.Len(t, x.Snapshot(), 2)

	require.NoError(t, next.Succeed(old))
	require.Len(t, find(t, asker, requiring("both", "is")), 1)
	require.Empty(t, find(t, asker, requiring("was")))
	require.Len(t, find(t, asker, discovery.Criteria{Require: discovery.Terms{Categories: []string{"c"}}}), 1)
	require.Len(t, x.Snapshot(), 2)
	require.False(t, find(t, asker, requiring("both"))[0].Figures.Reliability.Measured, "it inherits no figures")
	require.NoError(t, old.CheckInput("both", "text"))
	require.Error(t, old.CheckOutput("both", 1))
	require.NoError(t, next.CheckInput("both", 1))
	require.Error(t, next.CheckOutput("both", "text"))
	require.NoError(t, old.Withdraw("both"))
	provide(t, old, named("both", "late")...)
	require.Len(t, find(t, asker, requiring("both")), 1)
	require.Empty(t, find(t, asker, requiring("late")))
	old.Close()
	old.Close()
	require.Len(t, find(t, asker, requiring("both")), 1)
	require.ErrorIs(t, old.Provide(named("x")[0]), discovery.ErrClosed)
	next.Close()
	require.Empty(t, x.Snapshot())
	newClient(t, x, "p", nil)
}

// TestSucceedRefused lists what cannot take a place: nothing changes.
func TestSucceedRefused(t *testing.T) {
	x, err := discovery.New(discovery.Options{MaxCapabilities: 3})
	require.NoError(t, err)
	other, err := discovery.New(discovery.Options{})
	require.NoError(t, err)
	_, err = x.Client("p", discovery.ClientOptions{Held: true})
	require.ErrorIs(t, err, plugbus.ErrInvalid, "nobody is there")
	a, p, far := newClient(t, x, "a", nil), newClient(t, x, "p", nil), newClient(t, other, "p", nil)
	provide(t, p, named("x")...)
	one, two, gone := newHeld(t, x, "p"), newHeld(t, x, "p"), newHeld(t, x, "p")
	provide(t, gone, named("y", "z")...)
	require.ErrorIs(t, one.Provide(named("y")[0]), plugbus.ErrDenied, "the index is full")
	gone.Close()
	provide(t, one, named("y")...)
	for _, wrong := range []*discovery.Client{nil, a, far, one, two} {
		require.ErrorIs(t, one.Succeed(wrong), plugbus.ErrInvalid)
	}
	require.ErrorIs(t, a.Succeed(p), plugbus.ErrInvalid)
	require.ErrorIs(t, gone.Succeed(p), discovery.ErrClosed)
	require.Len(t, find(t, a, requiring("x")), 1)
	require.NoError(t, one.Succeed(p))
	require.ErrorIs(t, one.Succeed(p), plugbus.ErrInvalid)
	require.ErrorIs(t, two.Succeed(p), discovery.ErrClosed)
	require.Len(t, find(t, a, requiring("y")), 1)
	p.Close()
	two.Close()
	require.Len(t, x.Snapshot(), 1)
}

// TestSucceedIsOneStep looks for a capability while its provider is replaced again and
// again: it is never absent, and never there twice.
func TestSucceedIsOneStep(t *testing.T) {
	x, err := discovery.New(discovery.Options{})
	require.NoError(t, err)
	asker, p := newClient(t, x, "asker", nil), newClient(t, x, "p", nil)
	provide(t, p, named("both", "0")...)
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if matches, err := asker.Find(requiring("both")); err != nil || len(matches) != 1 || len(matches[0].Capabilities) != 2 {
				t.Errorf("%v %v", matches, err)
				return
			}
			if _, ok := asker.Capability("p", "both"); !ok || !asker.MayCall("p", "both") {
				t.Error("it is absent")
				return
			}
		}
	})
	for n := range 300 {
		next, err := x.Client("p", discovery.ClientOptions{Held: true})
		require.NoError(t, err)
		provide(t, next, named("both", fmt.Sprint(n+1))...)
		require.NoError(t, next.Succeed(p))
		p.Close()
		p = next
	}
	close(done)
	wait.Wait()
	require.Len(t, x.Snapshot(), 2)
}
