package router_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR13CheckedAgain changes the policy while a message waits: what counts is the
// policy of the moment when its delivery starts, for both sides.
func TestR13CheckedAgain(t *testing.T) {
	for _, test := range []struct {
		change func(sender, recipient *rules)
		reason string // "" if it is delivered
	}{
		{func(*rules, *rules) {}, ""},
		{func(s, _ *rules) { s.deny(plugbus.VerbSend, "other") }, ""},
		{func(s, _ *rules) { s.deny(plugbus.VerbSend, "to") }, `plugin "from" may not send to "to": denied_by_rule`},
		{func(_, r *rules) { r.deny(plugbus.VerbReceive, "other") }, ""},
		{func(_, r *rules) { r.deny(plugbus.VerbReceive, "from") }, `plugin "to" may not receive from "from": denied_by_rule`},
		{func(s, _ *rules) { s.deny(plugbus.VerbSend, "to"); s.allow(plugbus.VerbSend, "to") }, ""},
		{func(_, r *rules) {
			r.change(func() { r.denied["receive from"] = plugbus.ReasonQuarantined })
		}, `plugin "to" may not receive from "from": quarantined`},
	} {
		for _, concurrent := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var failures []router.Failure
				r := newRouter(t, router.Options{OnFailure: func(f router.Failure) { failures = append(failures, f) }})
				sender, recipient := newRules(), newRules()
				from, to := join(t, r, "from", sender.guard("from")), join(t, r, "to", recipient.guard("to"))
				d, g := &diary{}, closedGate(t)
				var options []router.HandleOption
				if concurrent {
					options = append(options, router.Concurrent(1))
				}
				handle(t, to, "note", func(ctx context.Context, m router.Message) (any, error) {
					if m.Data() == "first" {
						g.pass()
					}
					return d.write(ctx, m)
				}, options...)
				post(t, from, "to", "note", "first")
				synctest.Wait()
				post(t, from, "to", "note", "posted")
				asked := make(chan error, 1)
				go func() {
					_, err := from.Send(t.Context(), "to", "note", "asked")
					asked <- err
				}()
				synctest.Wait()
				test.change(sender, recipient)
				g.open()
				err := <-asked
				synctest.Wait()
				if test.reason == "" {
					require.NoError(t, err)
					require.Equal(t, []any{"first", "posted", "asked"}, d.data())
					return
				}
				require.Equal(t, []any{"first"}, d.data(), "what runs goes on, and no more starts")
				require.ErrorIs(t, err, plugbus.ErrDenied)
				lost := undelivered(t, err)
				require.Equal(t, plugbus.Undeliverable, lost.Outcome)
				require.False(t, lost.Started)
				require.Equal(t, plugbus.ErrDenied, lost.Err, "whose right is missing is not said")
				require.Equal(t, plugbus.Ledger{Offered: 3, Accepted: 3, Handled: 1, Undeliverable: 2}, r.Ledger())
				require.Len(t, r.DeadLetters(), 1)
				require.Contains(t, r.DeadLetters()[0].Reason, test.reason)
				require.Len(t, failures, 2)
				require.ErrorContains(t, failures[0].Err, test.reason)
			})
		}
	}
}

// TestR13TheReplyObeysTheRightOfThen shows that a reply is bounded by what the
// recipient may do when the delivery starts.
func TestR13TheReplyObeysTheRightOfThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		rules := newRules()
		from, to := join(t, r, "from"), join(t, r, "to", rules.guard("to"))
		handle(t, to, "note", echo)
		_, err := from.Send(t.Context(), "to", "note", "12345")
		require.NoError(t, err)
		rules.change(func() { rules.payload.MaxBytes = 3 })
		_, err = from.Send(t.Context(), "to", "note", "12345")
		require.Equal(t, plugbus.CodeExhausted, remote(t, err).Code)
	})
}

// TestR13AfterAHandover shows that mail which waited for a plugin's successor is
// its own to receive, whatever the one before might.
func TestR13AfterAHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		d, before, after := &diary{}, newRules(), newRules()
		from := join(t, r, "from")
		old := join(t, r, "to", before.guard("to"))
		g := closedGate(t)
		handle(t, old, "note", g.then(d.write))
		post(t, from, "to", "note", "old")
		synctest.Wait()
		post(t, from, "to", "note", "waits")
		after.denied["receive from"] = plugbus.ReasonDeniedByRule // At the same version.
		successor := joinHeld(t, r, "to", after.guard("to"))
		handle(t, successor, "note", d.write)
		require.NoError(t, successor.Succeed(old))
		g.open()
		require.NoError(t, old.Close(t.Context()))
		successor.Settle()
		synctest.Wait()
		require.Equal(t, []any{"old"}, d.data())
		require.EqualValues(t, 1, r.Ledger().Undeliverable)
	})
}

// TestWaysAreFound sends to many plugins in turn, some of which come and go, so
// that what the sender has cached is often of another one or of before.
func TestWaysAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		rules := newRules()
		from := join(t, r, "from", rules.guard("from"))
		clients := map[string]*router.Client{}
		for round := range 3 {
			for n := range 100 {
				id := fmt.Sprintf("to%d", n)
				if c := clients[id]; c != nil && n%3 == round {
					require.NoError(t, c.Close(t.Context()))
					_, err := from.Send(t.Context(), id, "note", nil)
					require.ErrorIs(t, err, router.ErrUnknownTarget)
					delete(clients, id)
				}
				if clients[id] == nil {
					clients[id] = join(t, r, id)
					handle(t, clients[id], "note", func(context.Context, router.Message) (any, error) { return id, nil })
				}
				for _, typ := range []string{"note", "other"} {
					reply, err := from.Send(t.Context(), id, typ, nil)
					if typ == "other" {
						require.ErrorIs(t, err, router.ErrNoHandler)
						continue
					}
					require.NoError(t, err)
					require.Equal(t, id, reply.Data())
				}
				if n%10 == 0 {
					rules.deny(plugbus.VerbSend, id)
					_, err := from.Send(t.Context(), id, "note", nil)
					require.Equal(t, plugbus.ReasonDeniedByRule, denial(t, err).Reason, "at the door")
					rules.allow(plugbus.VerbSend, id)
				}
			}
		}
	})
}

// TestPermitIsCached shows that a guard is asked once for what was asked before.
func TestPermitIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		sender, recipient := newRules(), newRules()
		from, to := join(t, r, "from", sender.guard("from")), join(t, r, "to", recipient.guard("to"))
		handle(t, to, "note", echo)
		for range 100 {
			_, err := from.Send(t.Context(), "to", "note", nil)
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, sender.asked.Load())
		require.EqualValues(t, 1, recipient.asked.Load())
	})
}

// TestNoCallAfterClose has a client close between the moment when its worker takes
// a message and the handler's call: the handler is not called any more.
func TestNoCallAfterClose(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			rules := newRules()
			guard := rules.guard("to")
			from, to := join(t, r, "from"), join(t, r, "to", guard)
			d := &diary{}
			var options []router.HandleOption
			if concurrent {
				options = append(options, router.Concurrent(1))
			}
			handle(t, to, "note", d.write, options...)
			_, err := from.Send(t.Context(), "to", "note", "first")
			require.NoError(t, err)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			guard.onPermit = func(plugbus.Verb, string) {
				if r.Ledger().Running == 0 {
					rules.version.Add(1) // At the door: the worker asks again.
					return
				}
				if err := to.Close(over); err == nil {
					t.Error("nothing was abandoned")
				}
			}
			rules.change(func() {})
			_, err = from.Send(t.Context(), "to", "note", "second")
			require.ErrorIs(t, err, router.ErrTargetLeft)
			synctest.Wait()
			require.Equal(t, []any{"first"}, d.data())
			require.Empty(t, r.Leaks())
		})
	}
}
