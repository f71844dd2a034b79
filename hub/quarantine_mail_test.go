package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// TestMailInQuarantine follows everything that can be on its way to a plugin which is put
// in quarantine: what runs ends with its own result, what waits is not delivered, and
// what comes later is refused to the sender, who hears why as far as it may know of the
// plugin, or ends as undeliverable. Each has one outcome, and the books balance. After
// the plugin is restored, by a probe, its handlers, subscriptions and watches go on, and
// what it missed can be counted (R10).
func TestMailInQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Router: router.Options{RequestTimeout: time.Minute}, Policy: policyOf(t, `
			"a": {"emit": true, "send": true, "publish": true, "discover": true, "dataAccess": {"words": {"write": true}}},
			"stranger": {"emit": true, "send": {"allow": ["someone"]}},
			"p": {"subscribe": true, "receive": true, "consume": true, "provide": true, "dataAccess": {"words": {"read": true}}}`)})
		a, stranger, p, gate := join(t, h, "a"), join(t, h, "stranger"), join(t, h, "p"), make(chan struct{})
		box, watched := &letterbox{}, &storebox{}
		slow := func(ctx context.Context, m router.Message) (any, error) { <-gate; return box.handle(ctx, m) }
		serve(t, p, "ask", slow)
		provide(t, p, hub.Capability{Name: "count"}, slow)
		_, err := p.HandleStream("read", box.stream)
		require.NoError(t, err)
		_, err = p.HandleTopic("news.*", box.consume)
		require.NoError(t, err)
		heard := listen(t, p, "word.*")
		beside, err := p.Subscribe("word.*", (&inbox{}).handle, events.Concurrent(2))
		require.NoError(t, err)
		create(t, h.Host(), "words", store.Config{Read: []string{"p"}, Write: []string{"a"}})
		words := view(t, a, "words")
		_, err = view(t, p, "words").Watch(t.Context(), "**", watched.watch)
		require.NoError(t, err)

		type answer struct {
			reply router.Response
			err   error
		}
		ask := func() <-chan answer {
			got := make(chan answer, 1)
			go func() {
				reply, err := a.Send(context.Background(), "p", "ask", 1)
				got <- answer{reply, err}
			}()
			synctest.Wait()
			return got
		}
		runs, waits := ask(), ask()
		require.NoError(t, a.Post(t.Context(), "p", "ask", 1))
		receipt, err := a.Publish(t.Context(), "news.new", 1)
		require.NoError(t, err)
		require.Equal(t, 1, receipt.Accepted)
		emit(t, a, "word.waits", 1)
		quarantine(t, h, p)
		synctest.Wait()
		close(gate)
		idle(t, h)
		synctest.Wait()
		ended := <-runs
		require.NoError(t, ended.err, "what runs goes on, and its result is the outcome")
		require.Equal(t, 1, ended.reply.Data())
		lost := undelivered(t, (<-waits).err)
		require.Equal(t, plugbus.Undeliverable, lost.Outcome)
		require.False(t, lost.Started)
		require.Equal(t, []string{"ask"}, box.types())
		before := h.Ledger()
		require.NoError(t, before.Check())
		require.EqualValues(t, 4, before.Undeliverable, "a request, a post, a publication, and an event for one of two: the concurrent handler had it already")
		require.Len(t, h.DeadLetters(), 2)

		// What comes later.
		for _, send := range []func() error{
			func() error { _, err := a.Send(t.Context(), "p", "ask", 1); return err },
			func() error { return a.Post(t.Context(), "p", "ask", 1) },
			func() error { return readAll(t.Context(), a, "p", "read", 1) },
		} {
			require.Equal(t, "the recipient is quarantined", refusalOf(t, send(), plugbus.ReasonRecipientCannotReceive).Hint)
		}
		_, err = a.Call(t.Context(), "count", 1)
		require.ErrorIs(t, err, hub.ErrNoProvider)
		candidates, err := a.Candidates(discovery.Criteria{Require: discovery.Terms{Capabilities: []string{"count"}}})
		require.NoError(t, err)
		require.Empty(t, candidates, "it may provide nothing now")
		_, err = stranger.Send(t.Context(), "p", "ask", 1)
		require.NotContains(t, err.Error(), "quarantine", "who may not know of it hears nothing of that")
		receipt, err = a.Publish(t.Context(), "news.new", 1)
		require.NoError(t, err)
		require.Equal(t, router.Receipt{Matched: 1, Refused: []string{"p"}}, router.Receipt{Matched: receipt.Matched, Accepted: receipt.Accepted, Refused: receipt.Refused})
		for range 3 {
			emit(t, a, "word.missed", 1)
		}
		_, err = words.Set(t.Context(), "a", []byte("1"))
		require.NoError(t, err)
		idle(t, h)
		after := h.Ledger()
		require.NoError(t, after.Check())
		require.Equal(t, before.Refused+5, after.Refused)
		require.Equal(t, before.Undeliverable+2*3, after.Undeliverable)
		require.Equal(t, before.Handled, after.Handled)
		require.Empty(t, watched.texts())

		// It goes on.
		<-time.After(30 * time.Second)
		synctest.Wait()
		require.Equal(t, hub.Ready, state(h, "p"))
		require.Equal(t, hub.Ready, state(h, "a"), "it is not to blame")
		_, err = a.Send(t.Context(), "p", "ask", 2)
		require.NoError(t, err)
		require.NoError(t, readAll(t.Context(), a, "p", "read", 1))
		_, err = a.Call(t.Context(), "count", 1)
		require.NoError(t, err)
		_, err = a.Publish(t.Context(), "news.new", 1)
		require.NoError(t, err)
		emit(t, a, "word.again", 1)
		idle(t, h)
		require.Equal(t, []string{"ask", "ask", "read", "count", "news.new"}, box.types())
		require.Equal(t, []string{"word.again"}, heard.names())
		require.Equal(t, []string{"set a=1"}, watched.texts(), "the watch went on where it was")
		require.EqualValues(t, 3, beside.Stats().Ledger.Undeliverable, "what it missed")
		var brought []string
		for e, err := range p.Replay(t.Context(), "word.missed", events.All()) {
			require.NoError(t, err)
			brought = append(brought, e.Name())
		}
		require.Len(t, brought, 3, "and what the history still has")
		require.NoError(t, h.Ledger().Check())
	})
}

// TestRequesterInQuarantine shows that a plugin which waits for a reply when it is put in
// quarantine gets it, since it was asked for before; and that what it has sent and what
// still waits is not delivered.
func TestRequesterInQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		a, p, gate := join(t, h, "a"), join(t, h, "p"), make(chan struct{})
		box := &letterbox{}
		serve(t, p, "ask", func(ctx context.Context, m router.Message) (any, error) { <-gate; return box.handle(ctx, m) })
		replies := make([]error, 2)
		for i := range replies {
			go func() { _, replies[i] = a.Send(context.Background(), "p", "ask", i) }()
			synctest.Wait()
		}
		quarantine(t, h, a)
		close(gate)
		idle(t, h)
		synctest.Wait()
		require.NoError(t, replies[0])
		require.Equal(t, plugbus.Undeliverable, undelivered(t, replies[1]).Outcome)
		require.Len(t, box.types(), 1)
		require.NoError(t, h.Ledger().Check())
	})
}
