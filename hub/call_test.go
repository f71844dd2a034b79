package hub_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// provide provides a capability, or fails the test.
func provide(t testing.TB, s *hub.Session, c hub.Capability, handler router.Handler, options ...router.HandleOption) {
	t.Helper()
	require.NoError(t, s.Provide(c, handler, options...))
}

// TestCall shows that a call goes to the best provider, by what it says of itself
// and by what the caller asks for, and never to the caller itself.
func TestCall(t *testing.T) {
	h := open(t, hub.Options{})
	asker, a, b := join(t, h, "asker"), join(t, h, "a"), join(t, h, "b")
	cheap, dear := 1.0, 9.0
	provide(t, asker, hub.Capability{Name: "doing", Rank: 9}, pong(asker))
	_, err := asker.Call(t.Context(), "doing", 1)
	require.ErrorIs(t, err, hub.ErrNoProvider)
	provide(t, a, hub.Capability{Name: "doing", Cost: &dear, Version: "1.5.0", Rank: 1}, pong(a))
	provide(t, b, hub.Capability{Name: "doing", Cost: &cheap, Version: "2.0.0"}, pong(b))
	for _, test := range []struct {
		options []discovery.CallOption
		want    string
	}{
		{nil, "a"},
		{[]discovery.CallOption{discovery.Require(discovery.Terms{MaxCost: &cheap})}, "b"},
		{[]discovery.CallOption{discovery.Prefer(discovery.Terms{MaxCost: &cheap})}, "b"},
		{[]discovery.CallOption{discovery.Require(discovery.Terms{Version: "^1.2"})}, "a"},
		{[]discovery.CallOption{discovery.Require(discovery.Terms{Version: "^2"}), discovery.Timeout(time.Second)}, "b"},
	} {
		got, err := discovery.Call[string](t.Context(), asker, "doing", 1, test.options...)
		require.NoError(t, err)
		require.Equal(t, test.want, got)
	}
	_, err = asker.Call(t.Context(), "doing", 1, discovery.Require(discovery.Terms{Version: "^3"}))
	require.ErrorIs(t, err, hub.ErrNoProvider)
	_, err = asker.Call(t.Context(), "doing", 1, discovery.Timeout(-1))
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = discovery.Call[int](t.Context(), asker, "doing", 1)
	_, wrong := errors.AsType[*plugbus.TypeError](err)
	require.True(t, wrong, "%v", err)
}

// TestFailover shows when a call tries the next provider: only if the first did
// not start with it, or if the capability is idempotent and the failure is one
// after which another try may do.
func TestFailover(t *testing.T) {
	refuse := func(code plugbus.Code) router.Handler {
		return func(context.Context, router.Message) (any, error) {
			return nil, &plugbus.RemoteError{Code: code, Message: "no"}
		}
	}
	panics := func(context.Context, router.Message) (any, error) { panic("boo") }
	hangs := func(ctx context.Context, _ router.Message) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
	for name, test := range map[string]struct {
		handler    router.Handler
		idempotent bool
		options    []router.HandleOption
		next       bool // the next one is tried
	}{
		"fails":                  {refuse(plugbus.CodeInternal), false, nil, false},
		"fails, idempotent":      {refuse(plugbus.CodeInternal), true, nil, true},
		"unavailable":            {refuse(plugbus.CodeUnavailable), true, nil, true},
		"invalid":                {refuse(plugbus.CodeInvalid), true, nil, false},
		"denied":                 {refuse(plugbus.CodeDenied), true, nil, false},
		"not found":              {refuse(plugbus.CodeNotFound), true, nil, false},
		"panics":                 {panics, false, nil, false},
		"panics, idempotent":     {panics, true, nil, true},
		"times out":              {hangs, false, []router.HandleOption{router.Timeout(time.Second)}, false},
		"times out, idempotent":  {hangs, true, []router.HandleOption{router.Timeout(time.Second)}, true},
		"caller's time is over":  {hangs, true, nil, false},
		"not for this caller":    {echo, false, []router.HandleOption{router.Senders([]string{"friend"}, nil)}, true},
		"is no single reply":     {nil, false, nil, true},
		"leaves before it began": {nil, false, nil, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := open(t, hub.Options{})
			asker, second := join(t, h, "asker"), join(t, h, "second")
			provide(t, second, hub.Capability{Name: "doing", Idempotent: test.idempotent}, pong(second))
			c := hub.Capability{Name: "doing", Rank: 1, Idempotent: test.idempotent}
			first := &plug{manifest: func() hub.Manifest { return hub.Manifest{ID: "first", Provides: []hub.Capability{c}} }}
			require.NoError(t, h.Register(t.Context(), first))
			gate := make(chan struct{})
			switch name {
			case "is no single reply":
				_, err := first.session.HandleStream("doing", (&letterbox{}).stream)
				require.NoError(t, err)
			case "leaves before it began":
				serve(t, first.session, "doing", func(context.Context, router.Message) (any, error) { <-gate; return nil, nil })
				require.NoError(t, h.Host().Post(t.Context(), "first", "doing", 1))
				synctest.Wait()
				go func() {
					<-time.After(time.Second)
					_ = h.Unregister(canceled(), "first")
					close(gate)
				}()
			default:
				provide(t, first.session, c, test.handler, test.options...)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			reply, err := asker.Call(ctx, "doing", 1)
			if test.next {
				require.NoError(t, err)
				require.Equal(t, "second", reply.Data())
			} else {
				require.Error(t, err)
				_, several := errors.AsType[*hub.CallError](err)
				require.False(t, several, "the error of the only attempt is returned as it is: %v", err)
			}
			synctest.Wait()
		})
	}
}

// TestCallErrors shows the error of a call that several providers did not answer,
// that a call tries a bounded number of them, and that all together take no longer
// than the caller says.
func TestCallErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{FailureBudget: -1})
		asker, tried := join(t, h, "asker"), 0
		for i := range 12 {
			s := join(t, h, fmt.Sprintf("p%02d", i))
			provide(t, s, hub.Capability{Name: "doing", Idempotent: true}, func(context.Context, router.Message) (any, error) { tried++; panic("boo") })
			provide(t, s, hub.Capability{Name: "waiting", Idempotent: true}, func(ctx context.Context, _ router.Message) (any, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}, router.Timeout(time.Second))
		}
		_, err := asker.Call(t.Context(), "doing", 1)
		failed, ok := errors.AsType[*hub.CallError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, []any{"asker", "doing", 8, 8}, []any{failed.Plugin, failed.Capability, len(failed.Attempts), tried})
		require.Equal(t, "p00", failed.Attempts[0].Plugin)
		require.Equal(t, plugbus.CodeInternal, remote(t, err).Code)
		require.NotErrorIs(t, err, hub.ErrNoProvider)
		require.Contains(t, err.Error(), "; then ")

		began := time.Now()
		_, err = asker.Call(t.Context(), "waiting", 1, discovery.Timeout(3500*time.Millisecond))
		require.Equal(t, 3500*time.Millisecond, time.Since(began), "%v", err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, err = asker.Call(ctx, "waiting", 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1500*time.Millisecond, time.Since(began))
	})
}

// TestCallTellsNothing shows that to a plugin which may not discover a capability
// one that somebody provides looks like one that nobody does; and that to one
// which may, a provider that is not for it looks like none (V15, V16, H8).
func TestCallTellsNothing(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `
		"provider": {"provide": true, "receive": true}, "friend": {"send": true, "discover": true},
		"asker": {"send": true, "discover": true}, "blind": {"send": true, "discover": {"allow": ["shown.*"]}}`)})
	p, asker, blind, friend := join(t, h, "provider"), join(t, h, "asker"), join(t, h, "blind"), join(t, h, "friend")
	provide(t, p, hub.Capability{Name: "hidden.real"}, pong(p))
	provide(t, p, hub.Capability{Name: "private.real", Allowed: []string{"friend", "traitor"}, Denied: []string{"traitor"}}, pong(p))
	texts := map[string]string{}
	for _, name := range []string{"hidden.real", "hidden.none"} {
		_, err := blind.Call(t.Context(), name, 1)
		refused := refusalOf(t, err, plugbus.ReasonInsufficientPermissions)
		_, err = blind.Providers(name)
		denied(t, err, plugbus.ReasonInsufficientPermissions)
		texts[name] = refused.Hint + refused.Explanation
	}
	require.Equal(t, texts["hidden.none"], texts["hidden.real"])
	for _, name := range []string{"private.real", "private.none"} {
		_, err := asker.Call(t.Context(), name, 1)
		require.ErrorIs(t, err, hub.ErrNoProvider)
		failed, ok := errors.AsType[*hub.CallError](err)
		require.True(t, ok)
		require.Empty(t, failed.Attempts)
		matches, err := asker.Providers(name)
		require.NoError(t, err)
		require.Empty(t, matches)
	}
	// The access list holds for a message that calls it directly, too.
	_, err := asker.Send(t.Context(), "provider", "private.real", 1)
	denied(t, err, plugbus.ReasonRecipientCannotReceive)
	denied(t, asker.Post(t.Context(), "provider", "private.real", 1), plugbus.ReasonRecipientCannotReceive)
	got, err := discovery.Call[string](t.Context(), friend, "private.real", 1)
	require.NoError(t, err)
	require.Equal(t, "provider", got)
	_, err = friend.Send(t.Context(), "provider", "private.real", 1)
	require.NoError(t, err)
	for _, s := range []*hub.Session{asker, blind, friend} {
		matches, err := s.Find(discovery.Criteria{})
		require.NoError(t, err)
		require.NotContains(t, fmt.Sprintf("%+v", matches), "traitor", "nobody sees an access list (H8)")
	}
}

// TestV16RightsAtTheCall shows that a match is no grant: when the caller may no
// longer discover the name, or the provider no longer provide it, or the caller no
// longer send, the call is refused.
func TestV16RightsAtTheCall(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"p": {"provide": true, "receive": true}, "asker": {"send": true, "discover": true}`)})
	p, asker := join(t, h, "p"), join(t, h, "asker")
	provide(t, p, hub.Capability{Name: "doing"}, pong(p))
	call := func() error { _, err := asker.Call(t.Context(), "doing", 1); return err }
	require.NoError(t, call())
	swap(t, h, policyOf(t, `"p": {"provide": true, "receive": true}, "asker": {"send": true}`))
	denied(t, call(), plugbus.ReasonInsufficientPermissions)
	swap(t, h, policyOf(t, `"p": {"receive": true}, "asker": {"send": true, "discover": true}`))
	require.ErrorIs(t, call(), hub.ErrNoProvider)
	swap(t, h, policyOf(t, `"p": {"provide": true, "receive": true}, "asker": {"discover": true}`))
	require.ErrorIs(t, call(), hub.ErrNoProvider)
	candidates, err := asker.Candidates(discovery.Criteria{})
	require.NoError(t, err)
	require.Len(t, candidates, 1)
	require.NotEmpty(t, candidates[0].Excluded)
	swap(t, h, policyOf(t, `"p": {"provide": true, "receive": true}, "asker": {"send": true, "discover": true}`))
	require.NoError(t, call())
}

// TestCallWithoutContext shows that it is an error, and no panic.
func TestCallWithoutContext(t *testing.T) {
	h := open(t, hub.Options{})
	provide(t, join(t, h, "p"), hub.Capability{Name: "doing"}, echo)
	var none context.Context
	_, err := join(t, h, "asker").Call(none, "doing", 1)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, "the context is nil")
}
