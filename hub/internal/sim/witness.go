package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// dozes is how long the bystander takes for what is to take long.
const dozes = 200 * time.Millisecond

// seat has the witness, the bystander and the caller join.
func (w *World) seat() error {
	watcher := hub.Func(hub.Manifest{ID: witness}, func(_ context.Context, s *hub.Session) error {
		for _, pattern := range []string{"**", "plugin:**", "hub:**", "store:**", "security:**"} {
			if _, err := s.Subscribe(pattern, w.testify, events.Buffer(events.MaxBuffer), events.OnOverflow(events.DropNewest)); err != nil {
				return err
			}
		}
		return nil
	})
	other := hub.Func(hub.Manifest{ID: bystander}, func(_ context.Context, s *hub.Session) error {
		if _, err := s.Handle("ping", func(_ context.Context, m router.Message) (any, error) { return m.Data(), nil }); err != nil {
			return err
		}
		_, err := s.Handle("doze", func(_ context.Context, m router.Message) (any, error) {
			w.dozing.Add(1)
			defer w.dozing.Add(-1)
			<-time.After(dozes)
			return m.Data(), nil
		}, router.Concurrent(router.MaxConcurrent))
		return err
	})
	third := hub.Func(hub.Manifest{ID: caller}, func(_ context.Context, s *hub.Session) error {
		w.caller = s
		return nil
	})
	if err := w.hub.Register(context.Background(), watcher, other, third); err != nil {
		return fmt.Errorf("seat the witness: %w", err)
	}
	return nil
}

// A sight is an event that the witness saw.
type sight struct {
	seq          uint64
	name, source string
	n            uint64
	at           time.Time
	about        string // whom a notice of the hub is about
}

// testify is the handler of the witness.
func (w *World) testify(_ context.Context, e events.Event) error {
	s := sight{seq: e.Seq(), name: e.Name(), source: e.Source(), at: e.Time()}
	if !own(s.name) {
		n, err := read(e.Data())
		if err != nil {
			w.wrong("the witness: event %q of %q: %v", s.name, s.source, err)
		}
		s.n = n.N
	} else if n, ok := e.Data().(hub.Notice); ok {
		s.about = n.Plugin
	}
	if e.Missed() != 0 {
		w.wrong("the witness missed %d events before %d", e.Missed(), s.seq)
	}
	if now := time.Now(); !now.Equal(s.at) {
		w.wrong("the witness has the event of %v at %v: somebody delayed it", s.at.Sub(w.born), now.Sub(w.born))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.seen); n > 0 && w.seen[n-1].seq >= s.seq {
		w.violations = append(w.violations, fmt.Sprintf("the witness has event %d after %d", s.seq, w.seen[n-1].seq))
	}
	w.seen = append(w.seen, s)
	return nil
}

// pollEvery is the time between two looks at the hub.
const pollEvery = 25 * time.Millisecond

// poll looks at the hub until ended is closed.
func (w *World) poll(ended <-chan struct{}) {
	held := map[string]captivity{} // who was in quarantine at the last look: since when, and when that was
	for i := uint64(0); ; i++ {
		select {
		case <-ended:
			return
		case <-time.After(pollEvery):
		}
		w.tally.Polls++
		if err := w.hub.Ledger().Check(); err != nil {
			w.wrong("Ledger: %v", err)
		}
		w.inspect(held)
		w.ping(i)
	}
}

// inspect holds a snapshot to its promises.
func (w *World) inspect(held map[string]captivity) {
	s := w.hub.Inspect()
	if err := s.Ledger.Check(); err != nil {
		w.wrong("Inspect: %v", err)
	}
	o := w.plan.Options
	if s.History.Events > o.Events.HistoryEvents {
		w.wrong("the history holds %d events, and may hold %d", s.History.Events, o.Events.HistoryEvents)
	}
	if s.Audit.Kept > s.Audit.Capacity || s.Audit.AdminKept > s.Audit.AdminCapacity || s.Audit.Recorded != uint64(s.Audit.Kept)+uint64(s.Audit.AdminKept)+s.Audit.Evicted+s.Audit.AdminEvicted { //nolint:gosec // They are counts.
		w.wrong("the audit log: %+v", s.Audit)
	}
	for _, p := range s.Plugins {
		for _, sub := range p.Subscriptions {
			if err := sub.Ledger.Check(); err != nil {
				w.wrong("%s, subscription to %q: %v", p.ID, sub.Pattern, err)
			}
			if most := w.mayWait(&sub); !sub.Reading && sub.Ledger.Waiting > most {
				w.wrong("%s, subscription to %q: %d wait, and %d may", p.ID, sub.Pattern, sub.Ledger.Waiting, most)
			}
		}
		if err := p.Mailbox.Ledger.Check(); err != nil {
			w.wrong("%s, mailbox: %v", p.ID, err)
		}
		if p.Mailbox.Waiting > o.Router.MailboxMessages {
			w.wrong("%s: %d messages wait, and %d may", p.ID, p.Mailbox.Waiting, o.Router.MailboxMessages)
		}
		if (p.ID == witness || p.ID == bystander || p.ID == caller) && p.Failures != 0 && w.closing.Load() == 0 {
			w.wrong("%s is blamed for %d failures, the last %s", p.ID, p.Failures, p.LastError)
		}
		if p.State != hub.Quarantined {
			delete(held, p.ID)
			continue
		}
		last, now := held[p.ID], time.Now()
		if last.from.Equal(p.Since) {
			w.mu.Lock()
			w.held = append(w.held, captivity{p.ID, last.to, now})
			w.mu.Unlock()
		} else {
			w.tally.Quarantines++
		}
		held[p.ID] = captivity{p.ID, p.Since, now}
	}
}

// mayWait returns how many events may wait for a subscription: for a queue of its own
// what that holds and what was taken from it for calls; for one that shares a log as much
// of that, what it has claimed, and the broadcasts; and a page of the history.
func (w *World) mayWait(s *events.SubscriptionStats) uint64 {
	const page = 64
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 2*s.Buffer + max(1, s.Buffer/8)
	sub := w.byID[s.ID]
	if sub != nil && sub.own {
		most = s.Buffer + sub.most
	}
	if sub != nil && sub.from != "" {
		most += page
	}
	return uint64(most) //nolint:gosec // It is a count.
}

// ping asks the bystander, which nobody delays.
func (w *World) ping(n uint64) {
	w.in(0, "the bystander's reply", func() {
		reply, err := w.caller.Send(context.Background(), bystander, "ping", n)
		switch {
		case err == nil && reply.Data() == n && reply.From() == bystander:
		case w.closing.Load() != 0 && (errors.Is(err, plugbus.ErrClosed) || errors.Is(err, router.ErrUnknownTarget) || errors.Is(err, router.ErrTargetLeft)):
		default:
			w.wrong("the bystander does not answer: %v, %v", reply.Data(), err)
		}
	})
}
