package hub_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	EventBus "github.com/asaskevich/EventBus"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// A hanging is a hub in which something does not return until it is let go.
type hanging struct {
	name    string
	options func(o *hub.Options, hang func())
	set     func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) // s is of the plugin "p"
	plug    func(p *plug, hang func())
	leak    string // the plugin, kind and name of what hangs, "" for nothing
	called  bool   // it is not called when there is no time
	told    string // part of the error of Close
}

var hangings = []hanging{
	{name: "nothing"},
	{name: "event handler", leak: "p handler job.*", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.Subscribe("job.*", func(context.Context, events.Event) error { hang(); return nil })
		require.NoError(t, err)
		emit(t, h.Host(), "job.new", 1)
	}},
	{name: "concurrent event handler", leak: "p handler job.*", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.Subscribe("job.*", func(context.Context, events.Event) error { hang(); return nil }, events.Concurrent(2))
		require.NoError(t, err)
		emit(t, h.Host(), "job.new", 1)
	}},
	{name: "filter", leak: "p handler job.*", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.Subscribe("job.*", (&inbox{}).handle, events.Filter(func(events.Event) bool { hang(); return true }))
		require.NoError(t, err)
		emit(t, h.Host(), "job.new", 1)
	}},
	{name: "message handler", leak: "p handler job", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		handled(t, s, "job", func(context.Context, router.Message) (any, error) { hang(); return nil, nil })
		require.NoError(t, h.Host().Post(t.Context(), "p", "job", 1))
	}},
	{name: "stream handler", leak: "p handler job", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.HandleStream("job", func(context.Context, router.Message, func(any) bool) error { hang(); return nil })
		require.NoError(t, err)
		go func() {
			for range h.Host().Stream(context.Background(), "p", "job", 1) { //nolint:errcheck // It is read to its end.
			}
		}()
	}},
	{name: "topic handler", leak: "p handler job.new", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.HandleTopic("job.*", func(context.Context, router.Message) error { hang(); return nil })
		require.NoError(t, err)
		_, err = h.Host().Publish(t.Context(), "job.new", 1)
		require.NoError(t, err)
	}},
	{name: "watcher", leak: "p handler watch ** of store shelf", set: func(t *testing.T, _ *hub.Hub, s *hub.Session, hang func()) {
		shelf, err := s.CreateStore(t.Context(), "shelf", store.Config{})
		require.NoError(t, err)
		_, err = shelf.Watch(t.Context(), "**", func(context.Context, store.Change) error { hang(); return nil })
		require.NoError(t, err)
		_, err = shelf.Set(t.Context(), "key", nil)
		require.NoError(t, err)
	}},
	{name: "validator", leak: "p handler validator of store shelf", set: func(t *testing.T, h *hub.Hub, s *hub.Session, hang func()) {
		_, err := s.CreateStore(t.Context(), "shelf", store.Config{Write: []string{"host"}, Validator: func(context.Context, *store.Proposal) error { hang(); return nil }})
		require.NoError(t, err)
		view, err := h.Host().OpenStore(t.Context(), "shelf")
		require.NoError(t, err)
		go func() { _, _ = view.Set(context.Background(), "key", nil) }()
	}},
	{name: "function of Go", leak: "p goroutine forever", set: func(t *testing.T, _ *hub.Hub, s *hub.Session, hang func()) {
		require.NoError(t, s.Go("forever", func(context.Context) { hang() }))
	}},
	{
		name: "Health", leak: "p call Health", plug: func(p *plug, hang func()) { p.health = func(context.Context) error { hang(); return nil } },
		set: func(_ *testing.T, h *hub.Hub, _ *hub.Session, _ func()) { go h.Health(context.Background()) },
	},
	{name: "Stop", leak: "p call Stop", called: true, plug: func(p *plug, hang func()) { p.stop = func(context.Context) error { hang(); return nil } }},
	{name: "Start of another", leak: "q call Start", set: func(_ *testing.T, h *hub.Hub, _ *hub.Session, hang func()) {
		go func() {
			_ = h.Register(context.Background(), &plug{manifest: named("q"), start: func(context.Context, *hub.Session) error { hang(); return nil }})
		}()
	}},
	{name: "Manifest", leak: "host call Manifest of *hub_test.plug", set: func(_ *testing.T, h *hub.Hub, _ *hub.Session, hang func()) {
		go func() {
			_ = h.Register(context.Background(), &plug{manifest: func() hub.Manifest { hang(); return hub.Manifest{ID: "q"} }})
		}()
	}},
	{
		name: "Stop of one that leaves already", leak: "p call Stop", plug: func(p *plug, hang func()) { p.stop = func(context.Context) error { hang(); return nil } },
		set: func(_ *testing.T, h *hub.Hub, _ *hub.Session, _ func()) {
			go func() { _ = h.Unregister(context.Background(), "p") }()
		},
	},
	{name: "sink", told: `sink "list"`, options: func(o *hub.Options, hang func()) {
		o.Audit.Sinks = []audit.SinkOptions{{Name: "list", Sink: audit.SinkFunc(func(context.Context, audit.Entry) error { hang(); return nil })}}
	}},
	{name: "notice board", leak: "host callback NoticeBoard or OnAlert", told: "NoticeBoard or OnAlert", options: func(o *hub.Options, hang func()) {
		board := EventBus.New()
		_ = board.Subscribe(hub.EventRegistered, func(hub.Notice) { hang() })
		o.NoticeBoard = board
	}},
	{name: "observer", leak: "host callback Observer", told: "Options.Observer", options: func(o *hub.Options, hang func()) {
		o.Observer = hub.ObserverFunc(func(context.Context, []plugbus.Observation) { hang() })
	}},
}

// TestCloseBound shows that Close returns by the end of its context and CloseGrace, and
// otherwise by its own bound, whatever hangs; that the report names exactly what hangs,
// and the books are final; that every call fails at once from then on; and that what
// returns late changes nothing (H16).
func TestCloseBound(t *testing.T) {
	for _, hanging := range hangings {
		for _, test := range []struct {
			name string
			ctx  func() (context.Context, context.CancelFunc)
			end  time.Duration // of ctx
		}{
			{"done", func() (context.Context, context.CancelFunc) { return canceled(), func() {} }, 0},
			{"deadline", func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), 10*time.Second)
			}, 10 * time.Second},
			{"cancelled", func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(5*time.Second, cancel)
				return ctx, cancel
			}, 5 * time.Second},
			{"none", func() (context.Context, context.CancelFunc) { return context.Background(), func() {} }, time.Hour},
		} {
			t.Run(hanging.name+"/"+test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { closeHanging(t, &hanging, test.ctx, test.end) })
			})
		}
	}
}

func closeHanging(t *testing.T, hanging *hanging, context func() (context.Context, context.CancelFunc), end time.Duration) {
	t.Helper()
	release := make(chan struct{})
	hang := func() { <-release }
	o := hub.Options{WaitLimit: 20 * time.Second}
	if hanging.options != nil {
		hanging.options(&o, hang)
	}
	h := open(t, o)
	other := join(t, h, "other")
	p := &plug{manifest: named("p")}
	if hanging.plug != nil {
		hanging.plug(p, hang)
	}
	require.NoError(t, h.Register(t.Context(), p))
	if hanging.set != nil {
		hanging.set(t, h, p.session, hang)
	}
	synctest.Wait()
	ctx, cancel := context()
	defer cancel()
	start := time.Now()
	report, err := h.Close(ctx)
	require.LessOrEqual(t, time.Since(start), min(end, 3*o.WaitLimit)+hub.CloseGrace)
	require.NoError(t, report.Ledger.Check())
	require.Zero(t, report.Ledger.Waiting+report.Ledger.Running, "%v", report.Ledger)
	var leaks []string
	for _, l := range report.Leaks {
		leaks = append(leaks, fmt.Sprintf("%s %s %s", l.Plugin, l.Kind, l.Name))
	}
	if hanging.leak == "" || hanging.called && end == 0 {
		require.Empty(t, leaks)
	} else {
		require.Equal(t, []string{hanging.leak}, leaks)
	}
	if hanging.told != "" {
		require.ErrorContains(t, err, hanging.told)
	} else if ctx.Err() == nil {
		require.NoError(t, err)
	}
	if ctx.Err() != nil {
		require.ErrorIs(t, err, ctx.Err())
	}
	sessionsEnded(t, h.Host(), other, p.session)

	before, entries := h.Ledger(), h.Audit().Stats()
	close(release)
	synctest.Wait()
	<-time.After(time.Minute)
	require.Equal(t, before, h.Ledger(), "what returns late changes nothing")
	require.Equal(t, report.Ledger, before)
	require.Equal(t, entries.Recorded, h.Audit().Stats().Recorded)
	require.Empty(t, h.Leaks())
	sessionsEnded(t, h.Host(), other, p.session)
}

// TestCloseManyHang shows that the time that Close takes does not grow with the number of
// plugins that hang, and that they do not keep the others from being stopped in their
// order.
func TestCloseManyHang(t *testing.T) {
	for _, n := range []int{1, 10, 100} {
		for _, what := range []string{"handler", "stop", "goroutine"} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{Policy: security.AllowAll()})
				release := make(chan struct{})
				var d diary
				for i := range n {
					p := &plug{manifest: named(fmt.Sprint("hung", i))}
					if what == "stop" {
						p.stop = func(context.Context) error { <-release; return nil }
					}
					require.NoError(t, h.Register(t.Context(), p, d.of(caps(fmt.Sprint("good", i), "", ""), nil)))
					switch what {
					case "handler":
						_, err := p.session.Subscribe("job.*", func(context.Context, events.Event) error { <-release; return nil })
						require.NoError(t, err)
					case "goroutine":
						require.NoError(t, p.session.Go("forever", func(context.Context) { <-release }))
					}
				}
				for range 3 {
					emit(t, h.Host(), "job.new", 1)
				}
				d.lines = nil
				start := time.Now()
				report, err := h.Close(t.Context())
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(start), 30*time.Second+hub.CloseGrace)
				require.Len(t, report.Leaks, n)
				require.Len(t, report.Problems, n)
				for i, p := range report.Problems {
					require.Equal(t, fmt.Sprint("hung", n-1-i), p.Plugin)
					if what == "handler" {
						require.Equal(t, []int{2, 1}, []int{p.Cancelled, p.Abandoned})
					}
				}
				var want []string
				for i := range n {
					want = append(want, fmt.Sprint("stop good", n-1-i))
				}
				require.Equal(t, want, d.lines)
				close(release)
				synctest.Wait()
				require.Empty(t, h.Leaks())
			})
		}
	}
}

// TestCloseWaitsForReplies shows that a plugin that waits for a reply does not leave
// before the one that is to give it, in whatever order they started.
func TestCloseWaitsForReplies(t *testing.T) {
	for _, order := range [][]string{{"asker", "slow"}, {"slow", "asker"}} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{})
			s := map[string]*hub.Session{}
			for _, id := range order {
				s[id] = join(t, h, id)
			}
			handled(t, s["slow"], "job", func(context.Context, router.Message) (any, error) { <-time.After(10 * time.Second); return "done", nil })
			replied := make(chan error, 2)
			for range 2 {
				go func() {
					reply, err := s["asker"].Send(context.Background(), "slow", "job", 1)
					if err == nil && reply.Data() != "done" {
						err = errPlugin
					}
					replied <- err
				}()
			}
			synctest.Wait()
			report, err := h.Close(t.Context())
			require.NoError(t, err)
			require.NoError(t, <-replied)
			require.Equal(t, slices.Equal(order, []string{"asker", "slow"}), <-replied == nil, "the one has 20 s, the other what is left of 15")
			require.NoError(t, report.Ledger.Check())
		})
	}
}
