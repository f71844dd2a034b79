package router_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// TestDraft shows what middleware sees, and that what it does to it stays
// between it and the door.
func TestDraft(t *testing.T) {
	for _, kind := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			got, c := clerk(t, r), join(t, r, "a")
			headers := map[string]string{"k": "v"}
			use(t, r, "look", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
				require.Equal(t, "a", d.From())
				require.Equal(t, kind, d.Kind())
				require.Equal(t, "data", d.Data)
				require.Equal(t, headers, d.Headers)
				require.Equal(t, plugbus.PriorityLow, d.Priority)
				require.Equal(t, "job", d.CorrelationID)
				require.Equal(t, "mine", d.ClientID)
				c := d.Clone()
				require.Equal(t, d, c)
				c.Headers["clone"] = "x"
				d.Headers["trace"] = "7"
				d.Priority = plugbus.PriorityHigh
				return next(ctx, d)
			}))
			use(t, r, "own", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
				return next(ctx, &router.Draft{To: d.To, Type: d.Type, Data: "own", Headers: d.Headers, CorrelationID: d.CorrelationID})
			}))
			use(t, r, "last", rewrite(func(d *router.Draft) {
				require.Equal(t, "a", d.From(), "a draft of one's own is the same plugin's")
				require.Equal(t, kind, d.Kind())
				require.Equal(t, plugbus.PriorityNormal, d.Priority)
			}))
			_, err := act(t.Context(), c, kind, router.Headers(headers), router.Priority(plugbus.PriorityLow),
				router.CorrelationID("job"), router.ClientID("mine"), router.MaxAge(time.Hour))
			require.NoError(t, err)
			require.NoError(t, r.Idle(t.Context()))
			require.Equal(t, map[string]string{"k": "v"}, headers, "the sender's own map")
			m := got.read()[0]
			require.Equal(t, "own", m.Data())
			require.Equal(t, "a", m.From())
			require.Equal(t, map[string]string{"k": "v", "trace": "7"}, m.Headers())
			require.Equal(t, "job", m.CorrelationID())
			require.Empty(t, m.ClientID())
		})
	}
	d := &router.Draft{}
	require.Empty(t, d.From())
	require.Equal(t, "unknown", d.Kind().String())
}

// TestOneDeadline shows that a message has one time, whatever middleware does
// with it.
func TestOneDeadline(t *testing.T) {
	for _, test := range []struct {
		options []router.SendOption
		limit   time.Duration // of the context; 0 for none
		want    time.Duration
	}{
		{nil, 0, 30 * time.Second},
		{[]router.SendOption{router.Timeout(12 * time.Second)}, 0, 12 * time.Second},
		{[]router.SendOption{router.Timeout(12 * time.Second)}, 11 * time.Second, 11 * time.Second},
		{nil, 50 * time.Second, 50 * time.Second},
	} {
		for _, tries := range []int{1, 3, 20} {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, router.Options{})
				b, c := join(t, r, "b"), join(t, r, "a")
				handle(t, b, "hang", func(ctx context.Context, _ router.Message) (any, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				use(t, r, "stubborn", through(func(ctx context.Context, d *router.Draft, next router.Deliver) (response router.Response, err error) {
					for range tries {
						<-time.After(5 * time.Second)
						response, err = next(ctx, d)
					}
					return response, err
				}))
				ctx := t.Context()
				if test.limit > 0 {
					limited, cancel := context.WithTimeout(ctx, test.limit)
					defer cancel()
					ctx = limited
				}
				start := time.Now()
				_, err := c.Send(ctx, "b", "hang", nil, test.options...)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, max(test.want, 0)+time.Duration(tries-1)*5*time.Second, time.Since(start))
				require.NoError(t, r.Idle(t.Context()))
				require.EqualValues(t, 1, r.Ledger().Offered, "no try begins when the time is over")
			})
		}
	}
}

// TestOneDeadlineForOtherContexts shows that the sender's deadline holds for what
// middleware does with a context of its own, which may end before a stream does.
func TestOneDeadlineForOtherContexts(t *testing.T) {
	for _, kind := range []router.Kind{router.KindSend, router.KindStream} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, router.Options{})
			b, c := join(t, r, "clerk"), join(t, r, "a")
			var ended time.Time
			handle(t, b, "do", func(ctx context.Context, _ router.Message) (any, error) {
				<-ctx.Done()
				ended = time.Now()
				return nil, ctx.Err()
			})
			_, err := b.HandleStream("do.it", func(ctx context.Context, _ router.Message, _ func(any) bool) error {
				<-ctx.Done()
				ended = time.Now()
				return ctx.Err()
			})
			require.NoError(t, err)
			use(t, r, "other", through(func(_ context.Context, d *router.Draft, next router.Deliver) (router.Response, error) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				return next(ctx, d) //nolint:contextcheck // That is the test.
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			start := time.Now()
			_, err = act(ctx, c, kind)
			require.ErrorIs(t, err, context.DeadlineExceeded, "%v", kind)
			require.Equal(t, 3*time.Second, time.Since(start), "%v", kind)
			synctest.Wait()
			require.Equal(t, 3*time.Second, ended.Sub(start))
		})
	}
}

// TestLongNames shows that what middleware does cannot make an error long.
func TestLongNames(t *testing.T) {
	r := newRouter(t, router.Options{})
	c := join(t, r, "a")
	use(t, r, "long", rewrite(func(d *router.Draft) { d.To = strings.Repeat("x", 1<<20) }))
	_, err := c.Publish(t.Context(), "news", nil)
	require.Equal(t, plugbus.ReasonMiddleware, denial(t, err).Reason)
	require.Less(t, len(err.Error()), 10_000)
}
