package router_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// setters are the ways to set a handler, by the name of the method.
func setters(c *router.Client) map[string]func(name string, options ...router.HandleOption) (*router.Route, error) {
	return map[string]func(string, ...router.HandleOption) (*router.Route, error){
		"Handle": func(name string, o ...router.HandleOption) (*router.Route, error) { return c.Handle(name, echo, o...) },
		"HandleStream": func(name string, o ...router.HandleOption) (*router.Route, error) {
			return c.HandleStream(name, count, o...)
		},
		"HandleTopic": func(name string, o ...router.HandleOption) (*router.Route, error) {
			return c.HandleTopic(name, func(context.Context, router.Message) error { return nil }, o...)
		},
		"HandleDefault": func(_ string, o ...router.HandleOption) (*router.Route, error) { return c.HandleDefault(echo, o...) },
	}
}

// TestHandleErrors sets handlers that cannot be.
func TestHandleErrors(t *testing.T) {
	nobody := make([]string, router.MaxSenders+1)
	for i := range nobody {
		nobody[i] = fmt.Sprint("p", i)
	}
	for _, test := range []struct {
		method, name string
		option       router.HandleOption
	}{
		{"Handle", "", router.Timeout(1)},
		{"Handle", "a..b", router.Timeout(1)},
		{"Handle", "a.*", router.Timeout(1)},
		{"Handle", strings.Repeat("x", 256), router.Timeout(1)},
		{"HandleStream", "", router.Timeout(1)},
		{"HandleStream", "**", router.Timeout(1)},
		{"Handle", "ok", nil},
		{"HandleDefault", "", nil},
		{"HandleTopic", "ok", nil},
		{"Handle", "ok", router.Timeout(0)},
		{"Handle", "ok", router.Timeout(-1)},
		{"Handle", "ok", router.Idle(time.Second)},
		{"HandleTopic", "ok", router.Idle(time.Second)},
		{"HandleStream", "ok", router.Idle(0)},
		{"Handle", "ok", router.Narrow()},
		{"HandleStream", "ok", router.Narrow()},
		{"HandleTopic", "ok", router.Measured()},
		{"Handle", "ok", router.Concurrent(0)},
		{"Handle", "ok", router.Concurrent(router.MaxConcurrent + 1)},
		{"Handle", "ok", router.Senders([]string{"not an id"}, nil)},
		{"Handle", "ok", router.Senders(nil, []string{""})},
		{"Handle", "ok", router.Senders(nobody, nil)},
	} {
		t.Run(fmt.Sprintf("%.20v", test), func(t *testing.T) {
			c := join(t, newRouter(t, router.Options{}), "c")
			route, err := setters(c)[test.method](test.name, test.option)
			require.ErrorIs(t, err, plugbus.ErrInvalid)
			require.ErrorContains(t, err, `plugin "c"`)
			require.Nil(t, route)
			require.Less(t, len(err.Error()), 700)
		})
	}
}

// TestHandleBadPatterns has the guard refuse patterns that are none, and those with
// too many wildcards.
func TestHandleBadPatterns(t *testing.T) {
	for pattern, reason := range map[string]plugbus.Reason{
		"":            plugbus.ReasonInvalidName,
		"a..b":        plugbus.ReasonInvalidName,
		"a**":         plugbus.ReasonInvalidName,
		"**.a":        plugbus.ReasonInvalidName,
		"*.*.*":       plugbus.ReasonQuotaExceeded,
		"a.*.**":      "",
		"plugin:left": "",
	} {
		r, law := newRouter(t, router.Options{}), newRules()
		c, err := r.Client("c", router.ClientOptions{Guard: law.guard("c"), MaxWildcards: 2})
		require.NoError(t, err)
		_, err = setters(c)["HandleTopic"](pattern)
		if reason == "" {
			require.NoError(t, err, pattern)
			continue
		}
		require.Equal(t, reason, denial(t, err).Reason, "%q", pattern)
		require.Equal(t, plugbus.VerbConsume, law.refusals()[0].Verb)
		require.EqualValues(t, 1, mailboxOf(t, r, "c").Refused)
		require.Zero(t, r.Ledger(), "it is no message")
	}
}

func TestHandleNil(t *testing.T) {
	c := join(t, newRouter(t, router.Options{}), "c")
	_, err := c.Handle("x", nil)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = c.HandleStream("x", nil)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = c.HandleDefault(nil)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	_, err = c.HandleTopic("x", nil)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
}

// TestHandleTwice sets one handler for a type, and as many as it likes for a topic.
func TestHandleTwice(t *testing.T) {
	c := join(t, newRouter(t, router.Options{}), "c")
	for _, method := range []string{"Handle", "HandleDefault", "HandleTopic"} {
		first, err := setters(c)[method]("x")
		require.NoError(t, err)
		second, err := setters(c)[method]("x")
		if method == "HandleTopic" {
			require.NoError(t, err)
			require.NotSame(t, first, second)
			continue
		}
		require.ErrorIs(t, err, router.ErrHandlerExists)
		require.ErrorContains(t, err, "handle_test.go:", "it says where the other one is")
		require.Nil(t, second)
		first.Remove()
		_, err = setters(c)[method]("x")
		require.NoError(t, err)
	}
	_, err := setters(c)["HandleStream"]("x")
	require.ErrorIs(t, err, router.ErrHandlerExists, "a type has one handler, of either kind")
}

// TestHandleQuota bounds the handlers of one plugin, of all kinds together.
func TestHandleQuota(t *testing.T) {
	r, law := newRouter(t, router.Options{}), newRules()
	c, err := r.Client("c", router.ClientOptions{Guard: law.guard("c"), MaxHandlers: 4})
	require.NoError(t, err)
	var routes []*router.Route
	for method, set := range setters(c) {
		route, err := set("of." + method)
		require.NoError(t, err)
		routes = append(routes, route)
	}
	for _, set := range setters(c) {
		_, err := set("one.too.many")
		require.Equal(t, plugbus.ReasonQuotaExceeded, denial(t, err).Reason)
	}
	require.EqualValues(t, 4, mailboxOf(t, r, "c").Refused)
	routes[0].Remove()
	routes[0].Remove() // Twice frees one place.
	handle(t, c, "again", echo)
	_, err = setters(c)["HandleTopic"]("one.too.many")
	require.Error(t, err)
	none, err := r.Client("none", router.ClientOptions{MaxHandlers: -1, MaxWildcards: -1})
	require.NoError(t, err)
	_, err = none.Handle("x", echo)
	require.ErrorIs(t, err, plugbus.ErrDenied)
}

// TestHandleDefault handles what nothing else handles, but no streams.
func TestHandleDefault(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	handle(t, b, "own", func(context.Context, router.Message) (any, error) { return "own", nil })
	route, err := b.HandleDefault(func(_ context.Context, m router.Message) (any, error) { return "any " + m.Type(), nil })
	require.NoError(t, err)
	require.Empty(t, route.Type())
	for typ, want := range map[string]string{"own": "own", "other": "any other", "more.of:it": "any more.of:it"} {
		reply, err := a.Send(t.Context(), "b", typ, nil)
		require.NoError(t, err)
		require.Equal(t, want, reply.Data())
	}
	_, err = drain(t, a.Stream(t.Context(), "b", "other", nil))
	require.ErrorIs(t, err, router.ErrNoHandler)
	require.Zero(t, publish(t, a, "other", nil).Matched)
	route.Remove()
	_, err = a.Send(t.Context(), "b", "other", nil)
	require.ErrorIs(t, err, router.ErrNoHandler)
}

// TestRemove removes a handler while a message runs and others wait: the one that
// runs goes on, and those that wait are cancelled.
func TestRemove(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		t.Run(fmt.Sprint(concurrent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				a, b := join(t, r, "a"), join(t, r, "b")
				var options []router.HandleOption
				if concurrent {
					options = append(options, router.Concurrent(1))
				}
				g := closedGate(t)
				route := handle(t, b, "wait", g.then(echo), options...)
				handle(t, b, "other", echo)
				results := make(chan error, 3)
				send := func(typ string) {
					go func() {
						_, err := a.Send(context.Background(), "b", typ, nil)
						results <- err
					}()
					synctest.Wait()
				}
				send("wait")
				send("wait")
				post(t, a, "b", "wait", "letter")
				if !concurrent {
					send("other") // It waits for the worker, and stays.
				}
				route.Remove()
				e := undelivered(t, <-results)
				require.ErrorIs(t, e, router.ErrNoHandler)
				require.Equal(t, plugbus.Cancelled, e.Outcome)
				require.False(t, e.Started)
				require.Equal(t, []any{"letter"}, payloads(r))
				_, err := a.Send(t.Context(), "b", "wait", nil)
				require.ErrorIs(t, err, router.ErrNoHandler)
				if concurrent {
					send("other")
				}
				route.Remove()
				g.open()
				require.NoError(t, <-results)
				require.NoError(t, <-results)
				require.NoError(t, r.Idle(t.Context()))
				require.Equal(t, plugbus.Ledger{Offered: 5, Accepted: 4, Handled: 2, Cancelled: 2, Refused: 1}, r.Ledger())
			})
		})
	}
}

// TestRemoveItself has a handler remove itself, and set another in its place.
func TestRemoveItself(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	var route *router.Route
	route = handle(t, b, "x", func(context.Context, router.Message) (any, error) {
		route.Remove()
		_, err := b.Handle("x", echo)
		return "old", err
	})
	for _, want := range []any{"old", "new"} {
		reply, err := a.Send(t.Context(), "b", "x", "new")
		require.NoError(t, err)
		require.Equal(t, want, reply.Data())
	}
}
