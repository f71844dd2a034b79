package main

import (
	"context"
	"errors"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// A tour is a walk through what the hub promises. It is the host: it alone holds
// the hub.
type tour struct {
	*page
	in       *input
	hub      *hub.Hub
	observer *observer
	guest    *guest
	student  *student
	printer  *printer
	word     Word                   // the commonest, as the counter says
	notes    chan events.Event      // of the guest, as the host had them
	reports  chan Report            // of the reporter
	news     chan router.Message    // that the host had
	refusals []*plugbus.DeniedError // that the guest got

	otherRefusals int // of messages, that the student heard of
}

// budget is how many failures a minute a plugin may have.
const budget = 5

// newTour returns a tour with a hub of its own, which walk closes.
func newTour(p *page, in *input, policy *security.Policy) (*tour, error) {
	o := &observer{}
	h, err := hub.New(hub.Options{
		Policy: policy, FailureBudget: budget, ProbeAfter: time.Second / 20,
		Observer: o, ObserverQueue: 1 << 19, // The counter reads and writes a lot at once.
	})
	if err != nil {
		return nil, err
	}
	return &tour{
		page: p, in: in, hub: h, observer: o, word: Word{Text: "plugbus"},
		notes: make(chan events.Event, 1024), reports: make(chan Report, 1), news: make(chan router.Message, 1),
	}, nil
}

// walk tells the chapters, and reports whether all held that they checked.
func (t *tour) walk(ctx context.Context) (held bool, err error) {
	defer func() {
		_, closing := t.hub.Close(ctx) // Once more, if the tour came to its end.
		err = errors.Join(err, closing, t.out.Flush())
	}()
	if err := t.listen(); err != nil {
		return false, err
	}
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"Every file becomes an event", t.reading},
		{"Whoever comes late misses nothing", t.lateness},
		{"Nobody speaks for another", t.forgery},
		{"The door says no, and why", t.refused},
		{"A flood is dammed", t.flood},
		{"A plugin panics, and the others go on", t.panicked},
		{"A plugin is found by what it can do", t.finding},
		{"A stream ends when its reader says so", t.streaming},
		{"What is urgent overtakes", t.urgency},
		{"Nobody waits for itself", t.circle},
		{"A publication has a receipt", t.publication},
		{"Two take the last sheet, and one is told", t.sharing},
		{"A mirror of a store is true", t.mirroring},
		{"A plugin hangs, and its caller goes on", t.hanging},
		{"A dead letter is sent again", t.letters},
		{"A new version takes over, and no letter is lost", t.swapping},
		{"A plugin that fails too often rests, and comes back", t.resting},
		{"The books balance", t.books},
		{"The audit log remembers", t.memory},
		{"The hub closes, and nothing is left", t.closing},
		{"An observer has seen it all", t.observing},
	} {
		t.chapter(chapter.title)
		if err := errors.Join(chapter.tell(ctx), t.out.Flush()); err != nil {
			return false, err
		}
	}
	return t.verdict(), nil
}

// listen subscribes the host itself, whose session may do everything. Its
// handlers pass on what they get, since they must not wait.
func (t *tour) listen() error {
	_, err := t.hub.Host().Subscribe("guest.*", func(_ context.Context, e events.Event) error {
		return pass(t.notes, e)
	})
	if err != nil {
		return err
	}
	_, err = events.Subscribe(t.hub.Host(), "report.ready", func(_ context.Context, r Report, _ events.Event) error {
		return pass(t.reports, r)
	})
	return err
}

func pass[T any](to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	default:
		return errors.New("more came than was expected")
	}
}

// ask emits an event of the host's, and waits until everything is done that it
// led to.
func (t *tour) ask(ctx context.Context, name string) error {
	if _, err := t.hub.Host().Emit(ctx, name, nil); err != nil {
		return err
	}
	return t.hub.Idle(ctx)
}

// noted returns the events of the guest that came with a name. Those of other
// names are forgotten.
func (t *tour) noted(name string) []events.Event {
	var found []events.Event
	for len(t.notes) > 0 {
		if e := <-t.notes; e.Name() == name {
			found = append(found, e)
		}
	}
	return found
}

// plugin returns how a plugin fares, and how the events ended that it subscribed
// to.
func (t *tour) plugin(id string) (hub.PluginInfo, plugbus.Ledger) {
	snapshot := t.hub.Inspect()
	info, _ := snapshot.Plugin(id)
	return info, info.Ledger()
}
