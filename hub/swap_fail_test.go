package hub_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// serverOf returns a plugin "p" that opens one of everything, and answers with its
// version. What it was told it keeps in what it is given.
func serverOf(version string, heard *letterbox, told *inbox, changes *storebox) *plug {
	p := &plug{manifest: func() hub.Manifest {
		return hub.Manifest{ID: "p", Version: version, Provides: []hub.Capability{{Name: "declared"}}}
	}}
	answer := func(ctx context.Context, m router.Message) (any, error) { //nolint:unparam // It says whose it is.
		_, _ = heard.handle(ctx, m)
		return version, nil
	}
	p.start = func(ctx context.Context, s *hub.Session) error {
		_, handle := s.Handle("who", answer)
		_, declared := s.Handle("declared", answer)
		_, topics := s.HandleTopic("news.*", func(ctx context.Context, m router.Message) error { _, err := answer(ctx, m); return err })
		_, subscribe := s.Subscribe("said.*", told.handle)
		_, aside := s.Subscribe("said.*", told.handle, events.Concurrent(2))
		provided := s.Provide(hub.Capability{Name: "provided"}, answer)
		own, ensure := s.EnsureStore(ctx, "own", store.Config{Validator: func(_ context.Context, p *store.Proposal) error {
			if p.Edits()[0].New.Text() == "bad for "+version {
				return errors.New("rejected by " + version)
			}
			return nil
		}})
		err := errors.Join(handle, declared, topics, subscribe, aside, provided, ensure)
		if err != nil {
			return err
		}
		_, err = own.Watch(ctx, "**", changes.watch)
		return err
	}
	return p
}

// serves requires that the plugin "p" of a version serves, in every way, and no other, with
// so many watches.
func serves(t *testing.T, h *hub.Hub, asker *hub.Session, version string, heard *letterbox, told *inbox, changes *storebox, watched int) {
	t.Helper()
	before, said, seen := len(heard.types()), len(told.names()), len(changes.texts())
	reply, err := asker.Send(t.Context(), "p", "who", nil)
	require.NoError(t, err)
	require.Equal(t, version, reply.Data())
	for _, capability := range []string{"declared", "provided"} {
		matches, err := asker.Providers(capability)
		require.NoError(t, err)
		require.Len(t, matches, 1)
		reply, err := asker.Call(t.Context(), capability, nil)
		require.NoError(t, err)
		require.Equal(t, version, reply.Data())
	}
	published, err := asker.Publish(t.Context(), "news.x", nil)
	require.NoError(t, err)
	require.Equal(t, 1, published.Accepted)
	emitted, err := asker.Emit(t.Context(), "said.x", nil)
	require.NoError(t, err)
	require.Equal(t, 2, emitted.Accepted)
	own := view(t, h.Host(), "own")
	_, err = own.Set(t.Context(), "key", []byte("bad for "+version))
	require.ErrorContains(t, err, "rejected by "+version)
	_, err = own.Set(t.Context(), "key", []byte("good"))
	require.NoError(t, err)
	idle(t, h)
	require.Len(t, heard.types(), before+4)
	require.Len(t, told.names(), said+2)
	require.Len(t, changes.texts(), seen+watched)
}

// TestReplaceThatFails starts successors that fail in every way, when they have opened
// everything: the old plugin serves on as if nothing had been, nothing of the new one
// remains, and it is recorded (H2, H6).
func TestReplaceThatFails(t *testing.T) {
	closing := func(h *hub.Hub) { _, _ = h.Close(context.Background()) }
	for name, test := range map[string]struct {
		end   func(ctx context.Context, h *hub.Hub) error // of Start
		stage string
		is    error
		took  time.Duration
		leaks bool
		gone  bool // the old one too, for a reason of its own
		stop  int  // calls of the new one's Stop
	}{
		"error":  {end: func(context.Context, *hub.Hub) error { return errPlugin }, stage: "start", is: errPlugin},
		"panic":  {end: func(context.Context, *hub.Hub) error { panic("start") }, stage: "start"},
		"goexit": {end: func(context.Context, *hub.Hub) error { runtime.Goexit(); return nil }, stage: "start", is: events.ErrGoexit},
		"late": {
			end: func(context.Context, *hub.Hub) error { <-time.After(time.Minute); return nil }, stage: "start",
			is: context.DeadlineExceeded, took: 10 * time.Second, leaks: true,
		},
		"obedient": {
			end: func(ctx context.Context, _ *hub.Hub) error { <-ctx.Done(); return nil }, stage: "start",
			is: context.DeadlineExceeded, took: 10 * time.Second,
		},
		"another replace": {
			end:   func(ctx context.Context, h *hub.Hub) error { return h.Replace(ctx, &plug{manifest: named("p")}) },
			stage: "start", is: hub.ErrReplacing,
		},
		"policy": {end: func(_ context.Context, h *hub.Hub) error {
			_, err := h.Security().Swap(security.HostID, policyOf(t, `"asker": {"send": true}`))
			return err
		}, stage: "policy", is: plugbus.ErrDenied, stop: 1},
		"policy of what it provides": {end: func(_ context.Context, h *hub.Hub) error {
			_, err := h.Security().Swap(security.HostID, policyOf(t, `"asker": {"send": true}, "p": {"receive": true, "dataAccess": {"own": {"read": true}}}`))
			return err
		}, stage: "policy", is: plugbus.ErrDenied, stop: 1},
		"unregister": {end: func(ctx context.Context, h *hub.Hub) error {
			go func() { //nolint:contextcheck // It has a context of its own.
				require.NoError(t, h.Unregister(context.Background(), "p"))
				require.Len(t, h.Security().Subjects(), 3, "nothing acts as the id any more")
			}()
			<-ctx.Done()
			<-time.After(time.Second)
			return nil
		}, stage: "start", is: hub.ErrUnknownPlugin, gone: true, leaks: true},
		"close": {end: func(_ context.Context, h *hub.Hub) error {
			go closing(h)
			<-time.After(time.Second)
			return nil
		}, stage: "start", is: hub.ErrClosed, took: time.Second, gone: true, stop: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := open(t, hub.Options{WaitLimit: 10 * time.Second})
			notices, asker := listen(t, h.Host(), "plugin:*"), join(t, h, "asker")
			d := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("d", "", "declared provided") }}}
			var heard, other letterbox
			var told, otherTold inbox
			var changes, otherChanges storebox
			first := serverOf("1", &heard, &told, &changes)
			require.NoError(t, h.Register(t.Context(), first))
			require.NoError(t, h.Register(t.Context(), d))
			serves(t, h, asker, "1", &heard, &told, &changes, 1)
			before := must(snapshotOf(h, "p"))

			second := serverOf("2", &other, &otherTold, &otherChanges)
			opens, stops := second.start, 0
			second.stop = func(context.Context) error { stops++; return nil }
			var session *hub.Session
			second.start = func(ctx context.Context, s *hub.Session) error {
				session = s
				if err := opens(ctx, s); err != nil {
					return err
				}
				return test.end(ctx, h)
			}
			began := time.Now()
			done := make(chan error)
			go func() { done <- h.Replace(context.Background(), second) }()
			if test.took > time.Second { // It serves all the while.
				synctest.Wait()
				require.Equal(t, []string{"1 ready", "2 starting"}, versions(h, "p"))
				serves(t, h, asker, "1", &heard, &told, &changes, 1)
			}
			err := <-done
			require.Equal(t, test.took, time.Since(began))
			failed, ok := errors.AsType[*hub.RegisterError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, [2]string{"p", test.stage}, [2]string{failed.Plugin, failed.Stage})
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			synctest.Wait()
			require.Equal(t, test.stop, stops)
			require.ErrorIs(t, session.Go("x", func(context.Context) {}), plugbus.ErrClosed)
			_, err = session.Emit(t.Context(), "said.x", nil)
			require.ErrorIs(t, err, plugbus.ErrClosed)
			require.Equal(t, test.leaks, len(h.Leaks()) > 0, "%v", h.Leaks())
			if test.stage == "policy" {
				_, err := h.Security().Swap(security.HostID, security.AllowAll())
				require.NoError(t, err)
			}
			if !test.gone {
				require.Equal(t, "1 ready", versions(h, "p")[0])
				watches := 1
				if name == "policy" {
					watches = 0 // For the time being it might not read.
				}
				serves(t, h, asker, "1", &heard, &told, &changes, watches)
				after := must(snapshotOf(h, "p"))
				require.Equal(t, before.Capabilities, after.Capabilities)
				require.Len(t, after.Subscriptions, len(before.Subscriptions))
				require.Equal(t, before.Mailbox.Handlers, after.Mailbox.Handlers)
				require.Len(t, after.Watches, watches)
				require.Empty(t, d.told())
				require.Len(t, entries(t, h, audit.Query{Event: "plugin.failed"}), 1)
				require.Equal(t, test.stage, detail(entries(t, h, audit.Query{Event: "plugin.failed"})[0], "stage"))
				require.NotContains(t, notices.names(), hub.EventReplaced)
				require.NotContains(t, notices.names(), hub.EventUnregistered)
				require.Len(t, h.Security().Subjects(), 4)
				require.NoError(t, h.Replace(t.Context(), serverOf("3", &heard, &told, &changes)), "another may try")
				serves(t, h, asker, "3", &heard, &told, &changes, 1)
			}
			require.Empty(t, other.types())
			require.Empty(t, otherTold.names())
			require.Empty(t, otherChanges.texts())
			require.NoError(t, h.Ledger().Check())
			<-time.After(2 * time.Minute)
			require.Empty(t, h.Leaks())
		})
	}
}
