package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// TestV18RuntimeProviders shows that a requirement is met by what a plugin or the
// host provided after its start, and not by what was withdrawn.
func TestV18RuntimeProviders(t *testing.T) {
	h := open(t, hub.Options{})
	p := join(t, h, "p")
	register := func(id, requires string) error { return h.Register(t.Context(), hub.Func(caps(id, "", requires), nil)) }
	missing, err := &hub.RequirementError{}, register("a", "x y")
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []string{"x", "y"}, missing.Missing)
	provide(t, p, hub.Capability{Name: "x"}, echo)
	provide(t, h.Host(), hub.Capability{Name: "y"}, echo)
	require.NoError(t, register("a", "x y"))
	require.NoError(t, p.Withdraw("x"))
	require.ErrorAs(t, register("b", "x y"), &missing)
	require.Equal(t, []string{"x"}, missing.Missing)
	require.NoError(t, h.Host().Withdraw("y"))
	require.ErrorAs(t, register("b", "y"), &missing)
	provide(t, p, hub.Capability{Name: "x"}, echo)
	require.NoError(t, h.Unregister(t.Context(), "p"))
	join(t, h, "p")
	require.ErrorAs(t, register("b", "x"), &missing, "a reused id inherits nothing")
}

// TestV18RequirementLost shows that a plugin hears when nobody provides any more
// what its manifest requires: by its method, by an event for it alone, in the audit
// log, and on the log of the host. It does not while somebody else still does, nor
// of what it does not require.
func TestV18RequirementLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `"p": {"provide": true}, "q": {"provide": true},
			"d": {"discover": true, "subscribe": {"allow": ["plugin:*"]}}, "other": {"subscribe": {"allow": ["plugin:*"]}}`)})
		for _, id := range []string{"p", "q"} {
			require.NoError(t, h.Register(t.Context(), hub.Func(caps(id, "x y", ""), nil)))
		}
		provide(t, h.Host(), hub.Capability{Name: "y"}, echo)
		other := &dependant{plug: plug{manifest: named("other")}}
		d := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("d", "", "x y") }}}
		require.NoError(t, h.Register(t.Context(), d, other))
		box, others := listen(t, d.session, hub.EventRequirementLost), listen(t, other.session, "plugin:*")

		require.NoError(t, h.Unregister(t.Context(), "p"))
		idle(t, h)
		synctest.Wait()
		require.Empty(t, d.told(), "q is there")
		require.NoError(t, h.Unregister(t.Context(), "q"))
		idle(t, h)
		synctest.Wait()
		require.Equal(t, []string{"x"}, d.told())
		require.NoError(t, h.Host().Withdraw("y"))
		idle(t, h)
		synctest.Wait()
		require.Equal(t, []string{"x", "y"}, d.told())
		require.Empty(t, other.told())
		require.Len(t, box.events, 2)
		notice, _ := box.events[0].Data().(hub.Notice)
		require.Equal(t, "nobody provides x", notice.Reason)
		require.NotContains(t, others.names(), hub.EventRequirementLost)
		found := entries(t, h, audit.Query{Event: "plugin.requirement-lost", Target: "d"})
		require.NotEmpty(t, found)
	})
}

// TestRequirementLostMishaps shows that a plugin that panics when it hears of a
// loss counts as failed, that one that hangs is a leak, and that neither keeps the
// provider from leaving.
func TestRequirementLostMishaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{WaitLimit: time.Second})
		gate := make(chan struct{})
		for _, p := range []hub.Plugin{&loser{"panics", func() { panic("boo") }}, &loser{"hangs", func() { <-gate }}} {
			require.NoError(t, h.Register(t.Context(), hub.Func(caps("p", "x", ""), nil), p))
			require.NoError(t, h.Unregister(context.Background(), "p"))
			synctest.Wait()
		}
		require.EqualValues(t, 2, must(snapshotOf(h, "panics")).Failures)
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []hub.Leak{{Plugin: "hangs", Kind: "call", Name: "RequirementLost"}}, h.Leaks())
		close(gate)
		synctest.Wait()
		require.Empty(t, h.Leaks())
	})
}

type loser struct {
	id   string
	lose func()
}

func (l *loser) Manifest() hub.Manifest                    { return caps(l.id, "", "x") }
func (l *loser) Start(context.Context, *hub.Session) error { return nil }
func (l *loser) RequirementLost(_ context.Context, _ string) error {
	l.lose()
	return plugbus.ErrInvalid
}

// TestRequirementNotThereYet shows that what a plugin provides that fails to start
// was not there for anybody, so that nobody hears that it was lost.
func TestRequirementNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		d := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("d", "", "x") }}}
		require.NoError(t, h.Register(t.Context(), hub.Func(caps("p", "x", ""), nil), d))
		require.NoError(t, h.Unregister(t.Context(), "p"))
		bad := &plug{manifest: func() hub.Manifest { return caps("p", "x", "") }}
		bad.start = func(context.Context, *hub.Session) error { return errPlugin }
		require.ErrorIs(t, h.Register(t.Context(), bad), errPlugin)
		idle(t, h)
		synctest.Wait()
		require.Equal(t, []string{"x"}, d.told())
	})
}

// TestIdleWaitsForDependants shows that a hub is not idle while a plugin is being
// told of a loss, and that what it sends then has been handled too.
func TestIdleWaitsForDependants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		box := listen(t, h.Host(), "told")
		l := &loser{id: "d", lose: func() {
			<-time.After(time.Second)
			emit(t, h.Host(), "told", 1)
		}}
		require.NoError(t, h.Register(t.Context(), hub.Func(caps("p", "x", ""), nil), l))
		require.NoError(t, h.Unregister(t.Context(), "p"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.ErrorIs(t, h.Idle(ctx), context.DeadlineExceeded)
		require.NoError(t, h.Idle(t.Context()))
		require.Len(t, box.events, 1)
	})
}

// TestIdleWaitsForStoresOfDependants shows that a hub is not idle either while a watch is
// told of what a plugin does that was told of a loss: of a change, or of what there is.
func TestIdleWaitsForStoresOfDependants(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			words := create(t, h.Host(), "words", store.Config{})
			box := &storebox{}
			slow := func(ctx context.Context, c store.Change) error {
				<-time.After(time.Second)
				return box.watch(ctx, c)
			}
			watch := func(options ...store.WatchOption) {
				_, err := words.Watch(context.Background(), "**", slow, options...)
				require.NoError(t, err)
			}
			if !snapshot {
				watch()
			}
			l := &loser{id: "d", lose: func() {
				<-time.After(time.Second)
				if snapshot {
					watch(store.Snapshot())
					return
				}
				set(t, words, "a", "1")
			}}
			require.NoError(t, h.Register(t.Context(), hub.Func(caps("p", "x", ""), nil), l))
			require.NoError(t, h.Unregister(t.Context(), "p"))
			idle(t, h)
			require.Len(t, box.texts(), 1)
		})
	}
}
