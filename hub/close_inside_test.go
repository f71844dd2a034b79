package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	EventBus "github.com/asaskevich/EventBus"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// TestCloseFromInside shows that the hub can be closed from wherever the hub calls
// somebody. With the context of the call, which names its plugin, that takes no time;
// without it, the one who closes is waited for until the time is over, and no longer.
// All others are stopped, and nothing is left.
func TestCloseFromInside(t *testing.T) {
	for _, place := range []struct {
		name  string
		knows bool // the context names the plugin
		set   func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context))
	}{
		{"event handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.Subscribe("app.*", func(ctx context.Context, _ events.Event) error { quit(ctx); return nil })
			require.NoError(t, err)
			emit(t, h.Host(), "app.quit", 1)
		}},
		{"concurrent event handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.Subscribe("app.*", func(ctx context.Context, _ events.Event) error { quit(ctx); return nil }, events.Concurrent(2))
			require.NoError(t, err)
			emit(t, h.Host(), "app.quit", 1)
		}},
		{"filter", false, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.Subscribe("app.*", (&inbox{}).handle, events.Filter(func(events.Event) bool { quit(context.Background()); return true }))
			require.NoError(t, err)
			emit(t, h.Host(), "app.quit", 1)
		}},
		{"message handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			handled(t, s, "quit", func(ctx context.Context, _ router.Message) (any, error) { quit(ctx); return nil, nil })
			require.NoError(t, h.Host().Post(t.Context(), "p", "quit", 1))
		}},
		{"request handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			handled(t, s, "quit", func(ctx context.Context, _ router.Message) (any, error) { quit(ctx); return nil, nil })
			go func() { _, _ = h.Host().Send(context.Background(), "p", "quit", 1) }()
		}},
		{"stream handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.HandleStream("quit", func(ctx context.Context, _ router.Message, _ func(any) bool) error { quit(ctx); return nil })
			require.NoError(t, err)
			go func() {
				for range h.Host().Stream(context.Background(), "p", "quit", 1) { //nolint:errcheck // It is read to its end.
				}
			}()
		}},
		{"topic handler", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.HandleTopic("app.*", func(ctx context.Context, _ router.Message) error { quit(ctx); return nil })
			require.NoError(t, err)
			_, err = h.Host().Publish(t.Context(), "app.quit", 1)
			require.NoError(t, err)
		}},
		{"watcher", true, func(t *testing.T, _ *hub.Hub, s *hub.Session, quit func(context.Context)) {
			shelf, err := s.CreateStore(t.Context(), "shelf", store.Config{})
			require.NoError(t, err)
			_, err = shelf.Watch(t.Context(), "**", func(ctx context.Context, _ store.Change) error { quit(ctx); return nil })
			require.NoError(t, err)
			_, err = shelf.Set(t.Context(), "key", nil)
			require.NoError(t, err)
		}},
		{"validator", true, func(t *testing.T, h *hub.Hub, s *hub.Session, quit func(context.Context)) {
			_, err := s.CreateStore(t.Context(), "shelf", store.Config{Write: []string{"host"}, Validator: func(ctx context.Context, _ *store.Proposal) error { quit(ctx); return nil }})
			require.NoError(t, err)
			view, err := h.Host().OpenStore(t.Context(), "shelf")
			require.NoError(t, err)
			go func() { _, _ = view.Set(context.Background(), "key", nil) }()
		}},
		{"function of Go", false, func(t *testing.T, _ *hub.Hub, s *hub.Session, quit func(context.Context)) {
			require.NoError(t, s.Go("quitter", func(context.Context) { quit(context.Background()) })) //nolint:contextcheck // It has a context of its own.
		}},
		{"middleware", false, func(t *testing.T, h *hub.Hub, _ *hub.Session, quit func(context.Context)) {
			require.NoError(t, h.Use("quitter", func(next router.Deliver) router.Deliver {
				return func(ctx context.Context, m *router.Draft) (router.Response, error) { quit(ctx); return next(ctx, m) }
			}))
			go func() { _ = h.Host().Post(context.Background(), "other", "job", 1) }()
		}},
		{"notice board", false, func(t *testing.T, h *hub.Hub, _ *hub.Session, quit func(context.Context)) {
			require.NoError(t, h.Register(t.Context(), &plug{manifest: named("noticed")}))
			quit(context.Background())
		}},
	} {
		for _, passes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/passes its context on: %v", place.name, passes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					board := EventBus.New()
					var d diary
					h := open(t, hub.Options{NoticeBoard: board})
					var once sync.Once
					var took time.Duration
					closed := make(chan hub.Report, 1)
					quit := func(ctx context.Context) {
						once.Do(func() {
							if !passes {
								ctx = context.Background()
							}
							start := time.Now()
							report, err := h.Close(ctx)
							require.NoError(t, err)
							took = time.Since(start)
							closed <- report
						})
					}
					if place.name == "notice board" {
						require.NoError(t, board.Subscribe(hub.EventRegistered, func(n hub.Notice) {
							if n.Plugin == "noticed" {
								<-time.After(time.Second)
							}
						}))
					}
					p := d.of(caps("p", "", ""), nil)
					require.NoError(t, h.Register(t.Context(), d.of(caps("other", "", ""), nil), p))
					place.set(t, h, p.session, quit)
					report := <-closed
					synctest.Wait()
					<-time.After(time.Second)
					require.LessOrEqual(t, took, 30*time.Second+hub.CloseGrace)
					if place.knows && passes {
						require.LessOrEqual(t, took, hub.CloseGrace)
					}
					require.NoError(t, report.Ledger.Check())
					require.Zero(t, report.Ledger.Waiting+report.Ledger.Running)
					require.Equal(t, report.Ledger, h.Ledger())
					require.Contains(t, d.lines, "stop other")
					require.Empty(t, h.Leaks(), "it has returned")
					sessionsEnded(t, h.Host(), p.session)
				})
			})
		}
	}
}

// TestCloseAmidst closes a hub while others register, replace, unregister, quarantine and
// restore plugins, swap the policy and act, from many goroutines: everybody gets an answer,
// all who close get the one report, and nothing is left.
func TestCloseAmidst(t *testing.T) {
	for round := range 30 {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{WaitLimit: 10 * time.Second})
			release := make(chan struct{})
			make1 := func(id string, n int) *plug {
				p := &plug{manifest: named(id)}
				p.start = func(_ context.Context, s *hub.Session) error {
					<-time.After(time.Duration(n%7) * time.Millisecond)
					_, err := s.Subscribe("job.*", func(context.Context, events.Event) error {
						if n%5 == 4 {
							<-release
						}
						<-time.After(time.Duration(n%11) * time.Millisecond)
						return nil
					})
					return err
				}
				p.stop = func(context.Context) error {
					if n%6 == 5 {
						<-release
					}
					<-time.After(time.Duration(n%5) * time.Millisecond)
					return nil
				}
				return p
			}
			var wait sync.WaitGroup
			loop := func(f func(n int) error) {
				wait.Go(func() {
					for n := round; !errors.Is(f(n), plugbus.ErrClosed); n++ {
						<-time.After(time.Millisecond)
					}
				})
			}
			ids := []string{"a", "b", "c"}
			for i, id := range ids {
				loop(func(n int) error { return h.Register(context.Background(), make1(id, n+i)) })
				loop(func(n int) error { return h.Replace(context.Background(), make1(id, n+i)) })
			}
			loop(func(n int) error { return h.Unregister(context.Background(), ids[n%3]) })
			loop(func(n int) error { return h.Quarantine(ids[n%3], "to see") })
			loop(func(n int) error { return h.Restore(ids[n%3]) })
			loop(func(n int) error { _, err := h.Host().Emit(context.Background(), "job.new", n); return err })
			wait.Go(func() {
				for range 20 {
					_, _ = h.Security().Swap("host", security.AllowAll())
					<-time.After(time.Millisecond)
				}
			})
			<-time.After(time.Duration(round) * time.Millisecond)
			reports := make([]hub.Report, 4)
			start := time.Now()
			var closers sync.WaitGroup
			for i := range reports {
				closers.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(5+5*i)*time.Second)
					defer cancel()
					reports[i], _ = h.Close(ctx)
				})
			}
			closers.Wait()
			require.LessOrEqual(t, time.Since(start), 20*time.Second)
			report, _ := h.Close(context.Background())
			require.LessOrEqual(t, time.Since(start), 10*time.Second+hub.CloseGrace)
			require.NoError(t, report.Ledger.Check())
			require.Zero(t, report.Ledger.Waiting+report.Ledger.Running, "%v", report.Ledger)
			require.EqualValues(t, report.Ledger.Abandoned, h.Ledger().Abandoned)
			require.Empty(t, h.Plugins())
			close(release)
			wait.Wait()
			<-time.After(time.Minute)
			require.Equal(t, report.Ledger, h.Ledger())
			require.Empty(t, h.Leaks())
		})
	}
}
