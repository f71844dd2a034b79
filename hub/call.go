package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/router"
)

// ErrNoProvider matches the error of a call of a capability that nobody provides
// who is available and whom the caller may call.
var ErrNoProvider = errors.New("hub: no provider of the capability is available, fits, and may be called")

// An Attempt is one provider that a call tried.
type Attempt struct {
	Plugin string
	Err    error
}

// A CallError reports a call that no provider answered. It matches the errors of
// all attempts, or [ErrNoProvider] if there was none.
type CallError struct {
	Plugin     string // who called
	Capability string
	Attempts   []Attempt // in the order in which they were made
}

// Error lists the attempts.
func (e *CallError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %q calls %q: ", e.Plugin, e.Capability)
	if len(e.Attempts) == 0 {
		return b.String() + ErrNoProvider.Error() + "; Candidates says why"
	}
	for i, a := range e.Attempts {
		if i > 0 {
			b.WriteString("; then ")
		}
		b.WriteString(a.Err.Error())
	}
	return b.String()
}

// Unwrap returns the errors of the attempts.
func (e *CallError) Unwrap() []error {
	if len(e.Attempts) == 0 {
		return []error{ErrNoProvider}
	}
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// maxAttempts bounds how many providers one call tries.
const maxAttempts = 8

// Call sends a request to the best provider of a capability other than the plugin
// itself, and waits for the reply. It tries the next best one only if the first did
// not start with it, or if the capability is declared idempotent and the provider
// failed in a way that says that another try may do. All together take at most the
// time of ctx, of [discovery.Timeout], or that of one request of the router.
//
// The error of the only attempt is returned as it is: see [router.Client.Send].
// Otherwise it is a [*CallError], which matches [ErrNoProvider] if there was none;
// or a [*plugbus.DeniedError] if the plugin may not discover the capability,
// whether somebody provides it or not; or it is [ErrClosed]; or it matches
// [plugbus.ErrInvalid], for an option out of its range or a nil ctx.
func (s *Session) Call(ctx context.Context, capability string, request any, options ...discovery.CallOption) (router.Response, error) {
	if ctx == nil {
		return router.Response{}, fmt.Errorf("plugin %q calls %q: the context is nil; pass on the one that you were given, or context.Background(): %w", s.id, plugbus.CutText(capability), plugbus.ErrInvalid)
	}
	o, err := discovery.CallOptionsOf(options...)
	if err != nil {
		return router.Response{}, fmt.Errorf("plugin %q calls %q: %w", s.id, plugbus.CutText(capability), err)
	}
	matches, err := s.finder.Resolve(capability, o)
	if err != nil {
		return router.Response{}, err
	}
	deadline := s.callDeadline(ctx, o.Timeout)
	failed := &CallError{Plugin: s.id, Capability: plugbus.CutText(capability)}
	for _, match := range matches {
		if match.Plugin == s.id || !s.finder.MayCall(match.Plugin, capability) {
			continue
		}
		left := deadline.Sub(s.hub.clock.Now())
		again := len(failed.Attempts) > 0
		if again && left <= 0 {
			break
		}
		var limits []router.SendOption
		if again || o.Timeout > 0 {
			limits = append(limits, router.Timeout(max(left, 1)))
		}
		reply, err := s.mail.Send(ctx, match.Plugin, capability, request, limits...)
		if err == nil {
			return reply, nil
		}
		failed.Attempts = append(failed.Attempts, Attempt{match.Plugin, err})
		if ctx.Err() != nil || len(failed.Attempts) == maxAttempts || !mayGoOn(err, match.Idempotent) {
			break
		}
	}
	if len(failed.Attempts) == 1 {
		return router.Response{}, failed.Attempts[0].Err
	}
	return router.Response{}, failed
}

// callDeadline returns until when all attempts of a call may take.
func (s *Session) callDeadline(ctx context.Context, timeout time.Duration) time.Time {
	now := s.hub.clock.Now()
	deadline, limited := ctx.Deadline()
	switch {
	case timeout == 0 && !limited:
		return now.Add(s.hub.requestTimeout())
	case timeout > 0 && (!limited || now.Add(timeout).Before(deadline)):
		return now.Add(timeout)
	}
	return deadline
}

// requestTimeout returns how long a request takes at most by default.
func (h *Hub) requestTimeout() time.Duration {
	if d := h.opts.Router.RequestTimeout; d > 0 {
		return d
	}
	return 30 * time.Second
}

// mayGoOn reports whether another provider may be tried after an error of one:
// it has not started, or it does not matter if it has.
func mayGoOn(err error, idempotent bool) bool {
	if lost, ok := errors.AsType[*router.DeliveryError](err); ok {
		return !lost.Started || idempotent
	}
	if remote, ok := errors.AsType[*plugbus.RemoteError](err); ok {
		return idempotent && (remote.Retryable || remote.Code == plugbus.CodeInternal || remote.Code == plugbus.CodeUnavailable)
	}
	if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok {
		switch denied.Reason {
		case plugbus.ReasonRecipientCannotReceive, plugbus.ReasonNoSendPermission, plugbus.ReasonTrustLevelMismatch,
			plugbus.ReasonDeniedByRule, plugbus.ReasonUnknownPlugin, plugbus.ReasonCycle:
			return true
		}
		return false // It would be the same at every provider.
	}
	_, unsent := errors.AsType[*router.SendError](err)
	return unsent
}
