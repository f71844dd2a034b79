package hub

import (
	"context"
	"strconv"

	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// Use adds a middleware for messages, which belongs to the host and runs on the
// goroutines of the senders, before the check. See [router.Router.Use].
func (h *Hub) Use(name string, m router.Middleware, options ...router.UseOption) error {
	err := h.router.Use(name, m, options...)
	if err == nil {
		h.record(audit.Entry{Event: "middleware.added", Actor: security.HostID, Target: name, Admin: true})
	}
	return err
}

// Unuse removes a middleware, and reports whether it was in use.
func (h *Hub) Unuse(name string) bool {
	used := h.router.Unuse(name)
	if used {
		h.record(audit.Entry{Event: "middleware.removed", Actor: security.HostID, Target: name, Admin: true})
	}
	return used
}

// DeadLetters returns the posts and publications that were accepted and not
// handled, the oldest first. See [router.Router.DeadLetters].
func (h *Hub) DeadLetters() []router.DeadLetter { return h.router.DeadLetters() }

// Resend sends a dead letter again, as a new message of its sender. See
// [router.Router.Resend].
func (h *Hub) Resend(ctx context.Context, number uint64) error {
	err := h.router.Resend(ctx, number)
	h.record(letterEntry("dead-letter.resent", number, err))
	return err
}

// Discard takes a dead letter away. The error matches [router.ErrNoLetter].
func (h *Hub) Discard(number uint64) error {
	err := h.router.Discard(number)
	h.record(letterEntry("dead-letter.discarded", number, err))
	return err
}

func letterEntry(event string, number uint64, err error) audit.Entry {
	return audit.Entry{
		Event: event, Actor: security.HostID, Target: strconv.FormatUint(number, 10), Admin: true,
		Details: []audit.Detail{{Key: "problem", Value: text(err)}},
	}
}
