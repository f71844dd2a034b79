package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// What the host does with messages: it sends dead letters again, or throws them away, and
// has middleware look at messages, or try them again.

// letters looks at the dead letters.
func (w *World) letters(r *rand.Rand) {
	last := uint64(0)
	for _, letter := range w.hub.DeadLetters() {
		if letter.Number <= last || letter.Outcome == plugbus.Handled {
			w.wrong("the dead letter %d after %d, whose outcome is %v", letter.Number, last, letter.Outcome)
		}
		last = letter.Number
		n, err := read(letter.Data())
		w.mu.Lock()
		sent := w.messages[n.N]
		w.mu.Unlock()
		if err != nil || sent == nil || sent.from != letter.From() || sent.to != "" && sent.to != letter.To() {
			w.wrong("a dead letter from %q to %q is %d, which nobody sent so (%v)", letter.From(), letter.To(), n.N, err)
			continue
		}
		if chance(r, 600) {
			w.resend(letter.Number, sent)
		} else if err := w.hub.Discard(letter.Number); err == nil { // Another act may have done so.
			w.take(letter.Number)
		}
	}
}

// resend sends a dead letter again, as a new message.
func (w *World) resend(number uint64, sent *message) {
	sp := w.begin()
	w.mu.Lock()
	sent.resent = append(sent.resent, &sp)
	w.mu.Unlock()
	var err error
	w.in(0, "Resend", func() { err = w.hub.Resend(context.Background(), number) })
	done := sp
	w.finish(&done)
	w.mu.Lock()
	sp = done
	w.mu.Unlock()
	if err == nil {
		w.take(number)
	}
}

// take notes that a dead letter is gone.
func (w *World) take(number uint64) {
	w.mu.Lock()
	again := w.taken[number]
	w.taken[number] = true
	w.mu.Unlock()
	if again {
		w.wrong("the dead letter %d was there twice", number)
	}
}

const (
	counter = "counter"
	retry   = "retry"
)

// use has a middleware look at messages, or no longer.
func (w *World) use(r *rand.Rand) {
	w.swaps.Lock()
	defer w.swaps.Unlock()
	if w.plan.retries && chance(r, 500) {
		w.mu.Lock()
		again := len(w.retried) > 0
		to := pick(r, w.plan.Plugins...)
		w.retried = append(w.retried, to)
		w.mu.Unlock()
		if again {
			w.hub.Unuse(retry)
		}
		_ = w.hub.Use(retry, router.Retry(router.RetryOptions{Attempts: 3, Base: 20 * time.Millisecond}), router.ForTarget(to)) // The hub may close.
		return
	}
	w.mu.Lock()
	n := len(w.counting)
	on := n > 0 && w.counting[n-1].end == 0
	if on {
		w.finish(&w.counting[n-1])
	}
	w.mu.Unlock()
	if on {
		if !w.hub.Unuse(counter) {
			w.wrong("a middleware in use was not")
		}
		return
	}
	if err := w.hub.Use(counter, w.count); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.counting = append(w.counting, w.begin())
	}
}

// count is a middleware that counts messages by their number.
func (w *World) count(next router.Deliver) router.Deliver {
	return func(ctx context.Context, m *router.Draft) (router.Response, error) {
		if n, known := numberOf(m.Data); known {
			w.mu.Lock()
			w.passed[n]++
			sent := w.messages[n]
			w.mu.Unlock()
			if sent == nil || sent.from != m.From() || sent.priority != m.Priority {
				w.wrong("the middleware got message %d from %q", n, m.From())
			}
		}
		return next(ctx, m)
	}
}

// retrying returns how much longer a message may take that may be tried again.
func (w *World) retrying(m *message) time.Duration {
	if !w.retries(m) {
		return 0
	}
	return requestLimit + waitLimit
}

// retries reports whether a message may be tried again.
func (w *World) retries(m *message) bool {
	if !w.plan.retries {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.to == "" || slices.Contains(w.retried, m.to)
}

// checkLetters compares what came by the middleware that counts, and the dead letters,
// with what was sent, and what was not handled.
func (w *World) checkLetters() {
	for _, m := range w.messages {
		for i := range w.counting {
			in := w.counting[i]
			if m.end != 0 && m.err == nil && in.begin < m.begin && (in.end == 0 || in.end > m.end) && w.passed[m.n] == 0 {
				w.wrong("message %d, %s from %s to %s, did not come by the middleware", m.n, m.kind, m.from, m.to)
			}
		}
	}
	r := w.final.Router
	if kept := uint64(r.DeadLetters) + r.Evicted + uint64(len(w.taken)); kept < w.unserved { //nolint:gosec // It is a count.
		w.wrong("%d posts and publications were not handled well, and there were %d dead letters", w.unserved, kept)
	}
}
