package router_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestR10Unsent shows the typed and immediate errors of messages for nobody, to a
// sender that may know of everybody.
func TestR10Unsent(t *testing.T) {
	for _, test := range []struct {
		to, typ string
		stream  bool
		want    error
		text    string
	}{
		{"nobody", "note", false, router.ErrUnknownTarget, `plugin "from" sends "note" to "nobody": router: no such plugin; it has not joined, or has left`},
		{"left", "note", false, router.ErrUnknownTarget, ""},
		{"leaving", "note", false, router.ErrUnknownTarget, "it is leaving"},
		{"to", "other", false, router.ErrNoHandler, `plugin "from" sends "other" to "to": router: the plugin has no handler for this type; check the spelling of the type; a plugin that is starting may not have set its handlers yet`},
		{"to", "removed", false, router.ErrNoHandler, ""},
		{"to", "flow", false, router.ErrNoHandler, "use Stream"},
		{"to", "note", true, router.ErrNoHandler, "use Send or Post"},
		{"from", "note", false, router.ErrNoHandler, ""}, // A plugin may know of itself.
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			rules := newRules()
			rules.unknown["from"] = true
			from := join(t, r, "from", rules.guard("from"))
			to := join(t, r, "to")
			handle(t, to, "note", echo)
			handle(t, to, "removed", echo).Remove()
			_, err := to.HandleStream("flow", func(context.Context, router.Message, func(any) bool) error { return nil })
			require.NoError(t, err)
			require.NoError(t, join(t, r, "left").Close(t.Context()))
			leaving := join(t, r, "leaving")
			handle(t, leaving, "note", echo)
			leaving.BeginDrain()
			start := time.Now()
			for _, err := range attempts(t, from, test.to, test.typ, test.stream) {
				require.ErrorIs(t, err, test.want, "%+v", test)
				sent, ok := errors.AsType[*router.SendError](err)
				require.True(t, ok)
				require.Equal(t, []string{"from", test.to, test.typ}, []string{sent.From, sent.To, sent.Type})
				require.ErrorContains(t, err, test.text)
			}
			require.Zero(t, time.Since(start))
			require.Empty(t, rules.refusals())
			l := r.Ledger()
			require.Equal(t, l.Offered, l.Refused)
			require.EqualValues(t, mailboxOf(t, r, "from").Refused, l.Refused)
		})
	}
}

// attempts returns the errors of a request and a post, or of a stream.
func attempts(t *testing.T, from *router.Client, to, typ string, stream bool) []error {
	t.Helper()
	if stream {
		for _, err := range from.Stream(t.Context(), to, typ, nil) {
			return []error{err}
		}
		return nil
	}
	_, err := from.Send(t.Context(), to, typ, nil)
	return []error{err, from.Post(t.Context(), to, typ, nil)}
}

// TestR10Hidden shows that to a sender that may send to everybody, but not know of
// everybody, a plugin that is not there, one that does not handle the type, one
// that is leaving and one that may not receive from it are all alike: in the error,
// and in what the attempt takes from the sender's rates.
func TestR10Hidden(t *testing.T) {
	for _, kind := range []router.Kind{router.KindSend, router.KindPost, router.KindStream} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			rules, deaf := newRules(), newRules()
			acts, bytes := newMeter(1000, time.Second), newMeter(1000, time.Second)
			rules.acts, rules.bytes = acts, bytes
			deaf.deny(plugbus.VerbReceive, "from")
			from := join(t, r, "from", rules.guard("from"))
			for _, id := range []string{"nobody", "other", "leaving", "denying", "choosy", "quarantined"} {
				rules.unknown[id] = true
			}
			handle(t, join(t, r, "other"), "other", echo)
			handle(t, join(t, r, "denying", deaf.guard("denying")), "note", echo)
			handle(t, join(t, r, "choosy"), "note", echo, router.Senders([]string{"else"}, nil))
			leaving := join(t, r, "leaving")
			handle(t, leaving, "note", echo)
			leaving.BeginDrain()
			shut := newRules()
			shut.denied["receive from"] = plugbus.ReasonQuarantined
			handle(t, join(t, r, "quarantined", shut.guard("quarantined")), "note", echo)
			var texts []string
			for _, id := range []string{"nobody", "other", "leaving", "denying", "choosy", "quarantined"} {
				var err error
				switch kind {
				case router.KindSend:
					_, err = from.Send(t.Context(), id, "note", make(chan int)) // Nobody looks at it.
				case router.KindPost:
					err = from.Post(t.Context(), id, "note", "12345")
				default:
					for _, err = range from.Stream(t.Context(), id, "note", "12345") {
					}
				}
				denied := *denial(t, err)
				require.Equal(t, id, denied.Object)
				require.NotErrorIs(t, err, router.ErrUnknownTarget)
				require.NotErrorIs(t, err, router.ErrNoHandler)
				denied.Object, denied.Record = "", 0
				texts = append(texts, fmt.Sprintf("%+v", denied))
				require.EqualValues(t, 1000, acts.left.Load(), id)
				require.EqualValues(t, 1000, bytes.left.Load(), id)
			}
			for i := range texts {
				require.Equal(t, texts[0], texts[i])
			}
			require.Equal(t, plugbus.Ledger{Offered: 6, Refused: 6}, r.Ledger())
		})
	}
}

// TestRecipientsRight shows the refusal of a recipient that the sender may know
// of.
func TestRecipientsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		rules, deaf := newRules(), newRules()
		from := join(t, r, "from", rules.guard("from"))
		handle(t, join(t, r, "to", deaf.guard("to")), "note", echo)
		handle(t, join(t, r, "choosy"), "note", echo, router.Senders(nil, []string{"from"}))
		_, err := from.Send(t.Context(), "to", "note", nil)
		require.NoError(t, err)

		deaf.deny(plugbus.VerbReceive, "from")
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, denial(t, err).Reason)
		require.Equal(t, plugbus.VerbSend, denial(t, err).Verb)

		deaf.change(func() { deaf.denied["receive from"] = plugbus.ReasonQuarantined })
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, denial(t, err).Reason)
		require.ErrorContains(t, err, "the recipient is quarantined")

		_, err = from.Send(t.Context(), "choosy", "note", nil)
		require.Equal(t, plugbus.ReasonRecipientCannotReceive, denial(t, err).Reason)

		deaf.allow(plugbus.VerbReceive, "from")
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.NoError(t, err)

		rules.deny(plugbus.VerbSend, "to")
		_, err = from.Send(t.Context(), "to", "note", nil)
		require.Equal(t, plugbus.ReasonDeniedByRule, denial(t, err).Reason)
		require.Len(t, rules.refusals(), 4)
	})
}

// TestDoor shows the checks of one message and their order, and that nothing that
// was refused is delivered.
func TestDoor(t *testing.T) {
	deny := func(r *rules) { r.denied["send to"] = plugbus.ReasonDeniedByRule }
	for _, test := range []struct {
		to, typ string
		data    any
		rules   func(r *rules)
		reason  plugbus.Reason
		retry   time.Duration
	}{
		{"to", "note", "ok", func(*rules) {}, "", 0},
		{"to", "note", "no", deny, plugbus.ReasonDeniedByRule, 0},
		{"t o", "note", "no", func(*rules) {}, plugbus.ReasonInvalidName, 0},
		{"to", "no te", "no", func(*rules) {}, plugbus.ReasonInvalidName, 0},
		{"to", "", "no", func(*rules) {}, plugbus.ReasonInvalidName, 0},
		{"to", "note", "no", func(r *rules) { r.acts = newMeter(0, 3*time.Second) }, plugbus.ReasonRateLimitExceeded, 3 * time.Second},
		{"to", "note", make(chan int), func(*rules) {}, plugbus.ReasonInvalidPayload, 0},
		{"to", "note", "toolong", func(r *rules) { r.payload.MaxBytes = 3 }, plugbus.ReasonTooLarge, 0},
		{"to", "note", plugbus.Shared(1), func(*rules) {}, plugbus.ReasonSharedNotGranted, 0},
		{"to", "note", "<script>", func(r *rules) { r.payload.Content = plugbus.CheckAll }, plugbus.ReasonInvalidContent, 0},
		{"to", "note", "four", func(r *rules) { r.bytes = newMeter(3, 2*time.Second) }, plugbus.ReasonByteRateExceeded, 2 * time.Second},
		{"to", "no te", "no", deny, plugbus.ReasonDeniedByRule, 0},
		{"to", "note", make(chan int), func(r *rules) { r.acts = newMeter(0, 1) }, plugbus.ReasonRateLimitExceeded, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			rules, d := newRules(), &diary{}
			test.rules(rules)
			from := join(t, r, "from", rules.guard("from"))
			handle(t, join(t, r, "to"), "note", d.write)
			_, err := from.Send(t.Context(), test.to, test.typ, test.data)
			if test.reason == "" {
				require.NoError(t, err)
				require.Len(t, d.read(), 1)
				return
			}
			require.ErrorIs(t, err, plugbus.ErrDenied)
			denied := denial(t, err)
			require.Equal(t, []any{test.reason, test.retry, plugbus.VerbSend, test.to}, []any{denied.Reason, denied.RetryAfter, denied.Verb, denied.Object}, "%+v", test)
			require.Empty(t, d.read())
			require.Len(t, rules.refusals(), 1)
			require.Equal(t, plugbus.Ledger{Offered: 1, Refused: 1}, r.Ledger())
		})
	}
}

// TestR8RaisingPriorityNeedsAGrant compares the priority with the permit.
func TestR8RaisingPriorityNeedsAGrant(t *testing.T) {
	for _, most := range []plugbus.Priority{plugbus.PriorityLow, plugbus.PriorityNormal, plugbus.PriorityHigh} {
		for p := plugbus.PriorityLow; p <= plugbus.PriorityHigh; p++ {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				rules := newRules()
				rules.priority = most
				from := join(t, r, "from", rules.guard("from"))
				handle(t, join(t, r, "to"), "note", func(_ context.Context, m router.Message) (any, error) { return int(m.Priority()), nil })
				reply, err := from.Send(t.Context(), "to", "note", nil, router.Priority(p))
				if p <= most {
					require.NoError(t, err)
					require.Equal(t, int(p), reply.Data())
					return
				}
				require.Equal(t, plugbus.ReasonPriorityNotGranted, denial(t, err).Reason)
				require.ErrorContains(t, err, "priority "+most.String()+" at most, not "+p.String())
			})
		}
	}
}

// TestR20UnknownValues shows that options out of their range are errors of the
// call, and never reach a mailbox.
func TestR20UnknownValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		c := join(t, r, "c")
		handle(t, c, "note", echo)
		long, many := string(make([]byte, 256)), map[string]string{}
		for i := range router.MaxHeaders + 1 {
			many[strconv.Itoa(i)] = ""
		}
		for _, test := range []struct {
			option router.SendOption
			name   string
		}{
			{router.Priority(2), "Priority"},
			{router.Priority(-2), "Priority"},
			{router.Timeout(0), "Timeout"},
			{router.Timeout(-1), "Timeout"},
			{router.MaxAge(0), "MaxAge"},
			{router.MaxAge(-1), "MaxAge"},
			{router.Idle(time.Second), "Idle"},
			{router.Idle(0), "Idle"},
			{router.CorrelationID(long), "CorrelationID"},
			{router.CorrelationID(""), "CorrelationID"},
			{router.ClientID(long), "ClientID"},
			{router.ClientID(""), "ClientID"},
			{router.Headers(many), "Headers"},
			{nil, "SendOption"},
		} {
			_, err := c.Send(t.Context(), "c", "note", nil, test.option)
			require.ErrorIs(t, err, plugbus.ErrInvalid, test.name)
			wrong, ok := errors.AsType[*router.OptionError](err)
			require.True(t, ok)
			require.Equal(t, test.name, wrong.Option)
		}
		require.ErrorContains(t, c.Post(t.Context(), "c", "note", nil, router.Timeout(time.Second)), "MaxAge bounds")
		_, err := c.Publish(t.Context(), "t", nil, router.WaitForRoom())
		require.ErrorContains(t, err, "WaitForRoom")
		for _, option := range []router.HandleOption{
			nil, router.Concurrent(0), router.Concurrent(router.MaxConcurrent + 1), router.Timeout(0), router.Idle(0), router.Idle(1), router.Narrow(),
			router.Senders(make([]string, router.MaxSenders+1), nil), router.Senders(nil, []string{"no id"}),
		} {
			_, err := c.Handle("other", echo, option)
			require.ErrorIs(t, err, plugbus.ErrInvalid, "%#v", option)
		}
		require.Zero(t, r.Ledger())
	})
}

// TestNilContext shows that a call without a context is an error, with middleware
// and without, and never a panic.
func TestNilContext(t *testing.T) {
	t.Parallel()
	r := newRouter(t, router.Options{})
	c := join(t, r, "c")
	handle(t, c, "note", echo)
	var none context.Context
	for _, middlewares := range []int{0, 1} {
		for range middlewares {
			require.NoError(t, r.Use("none", func(next router.Deliver) router.Deliver { return next }))
		}
		_, sent := c.Send(none, "c", "note", nil)
		_, published := c.Publish(none, "note", nil)
		errs := []error{sent, published, c.Post(none, "c", "note", nil)}
		for _, err := range c.Stream(none, "c", "note", nil) {
			errs = append(errs, err)
		}
		require.Len(t, errs, 4)
		for _, err := range errs {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
			require.ErrorContains(t, err, "the context is nil")
		}
	}
	require.Zero(t, r.Ledger())
}
