package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// reply makes the reply of what a handler returned: it is checked and copied as
// everything that enters the hub is. Who serves a request may reply to it.
func (c *Client) reply(d *delivery, accept *plugbus.Permit, data any, index int) (Response, error) {
	if got, ok := data.(Response); ok {
		data = got.Data() // What somebody else replied is passed on.
	}
	frozen, size, err := payload.Freeze(data, &accept.Payload)
	if err == nil && accept.Bytes != nil {
		if wait := accept.Bytes.Take(c.router.clock.Now(), size); wait != 0 {
			refusal := c.badReply(d, plugbus.ReasonByteRateExceeded, nil)
			refusal.RetryAfter = max(wait, 0)
			return Response{}, &replyError{c.guard.Refuse(refusal), plugbus.CodeExhausted}
		}
	}
	if err != nil {
		reason, code := plugbus.ReasonCheckFailed, plugbus.CodeInternal
		if bad, ok := errors.AsType[*payload.Error](err); ok {
			reason = bad.Reason
		}
		if reason == plugbus.ReasonTooLarge {
			code = plugbus.CodeExhausted
		}
		return Response{}, &replyError{c.guard.Refuse(c.badReply(d, reason, err)), code}
	}
	return Response{frozen: frozen, from: c.id, size: size, index: index, id: d.msg.ID()}, nil
}

// badReply returns the refusal of a reply.
func (c *Client) badReply(d *delivery, reason plugbus.Reason, cause error) plugbus.Refusal {
	return plugbus.Refusal{
		Verb: plugbus.VerbSend, Object: d.msg.address.from, Reason: reason, Chain: d.msg.meta.chain, Cause: cause,
		Hint: fmt.Sprintf("it is the reply to a message of type %q", d.msg.address.name),
	}
}

// A replyError is the failure of a handler whose reply the door refused. The
// requester hears no more of it than the code.
type replyError struct {
	denied error // a *plugbus.DeniedError
	code   plugbus.Code
}

func (e *replyError) Error() string {
	return fmt.Sprintf("router: the reply was refused: %v", e.denied)
}
func (e *replyError) Unwrap() error { return e.denied }

// answer returns the error that the sender gets for a delivery that did not end
// well.
func (c *Client) answer(d *delivery, v *verdict) error {
	if v.outcome == plugbus.Failed && v.err != ErrIdle { //nolint:errorlint // It is never wrapped.
		return v.remote
	}
	why := v.err
	if v.outcome == plugbus.Undeliverable && why != ErrNoHandler { //nolint:errorlint // The same.
		why = plugbus.ErrDenied // Whose right is missing is not said.
	}
	return d.lost(v.outcome, why, v.started || v.outcome == plugbus.Failed)
}

// failure is the verdict about a handler that failed by what happened to it: err is
// ours.
func (c *Client) failure(err error) verdict {
	v := verdict{outcome: plugbus.Failed, err: err, why: err}
	v.remote = &plugbus.RemoteError{Plugin: c.id, Code: plugbus.CodeInternal}
	switch e := err.(type) { //nolint:errorlint // It is never wrapped.
	case *PanicError:
		v.remote.Message = "the handler panicked"
	case *replyError:
		v.remote.Code, v.remote.Message = e.code, "the reply was refused"
	default:
		v.remote.Message = "the handler ended its goroutine"
	}
	return v
}

// returned is the verdict about a handler that returned err, which may be anything,
// an error of ours included. It reads the error once, and nobody else does.
func (c *Client) returned(err error) verdict {
	v := verdict{outcome: plugbus.Failed}
	v.remote = &plugbus.RemoteError{Plugin: c.id, Code: plugbus.CodeInternal}
	read(v.remote, err)
	v.why = errors.New(v.remote.Message)
	v.err = &returnedError{err, v.why}
	return v
}

// codes are all codes.
func codes() []plugbus.Code {
	return []plugbus.Code{
		plugbus.CodeInvalid, plugbus.CodeDenied, plugbus.CodeNotFound, plugbus.CodeConflict, plugbus.CodeExhausted,
		plugbus.CodeUnavailable, plugbus.CodeDeadline, plugbus.CodeCancelled, plugbus.CodeInternal, plugbus.CodeUnknown,
	}
}

// read reads a handler's error, whose methods may do anything. It runs on the
// worker of the plugin that made it.
func read(remote *plugbus.RemoteError, err error) {
	orderly := false
	defer func() {
		if !orderly {
			_ = recover() // A Goexit goes on, and the worker is replaced.
			remote.Code, remote.Message = plugbus.CodeInternal, fmt.Sprintf("an error of type %T that cannot be read", err)
		}
	}()
	own, ok := errors.AsType[*plugbus.RemoteError](err)
	switch {
	case ok && own != nil:
		remote.Code, remote.Retryable = own.Code, own.Retryable
		if !slices.Contains(codes(), own.Code) {
			remote.Code = plugbus.CodeUnknown
		}
		if err == error(own) { //nolint:errorlint // Only then is its text but the message.
			remote.Message = plugbus.CutText(own.Message)
			orderly = true
			return
		}
	default:
		remote.Code, remote.Retryable = codeOf(err)
	}
	remote.Message = plugbus.CutText(err.Error())
	orderly = true
}

// codeOf returns the code of an error that does not say it, and whether a later
// try may do.
func codeOf(err error) (code plugbus.Code, retryable bool) {
	if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok && denied != nil && denied.RetryAfter > 0 {
		return plugbus.CodeExhausted, true
	}
	if wrong, ok := errors.AsType[*plugbus.TypeError](err); ok && wrong != nil {
		return plugbus.CodeInvalid, false
	}
	for _, known := range []struct {
		err       error
		code      plugbus.Code
		retryable bool
	}{
		{context.DeadlineExceeded, plugbus.CodeDeadline, true},
		{context.Canceled, plugbus.CodeCancelled, false},
		{ErrQueueFull, plugbus.CodeExhausted, true},
		{ErrUnknownTarget, plugbus.CodeUnavailable, true},
		{ErrNoHandler, plugbus.CodeUnavailable, false},
		{ErrTargetLeft, plugbus.CodeUnavailable, true},
		{plugbus.ErrInvalid, plugbus.CodeInvalid, false},
		{plugbus.ErrDenied, plugbus.CodeDenied, false},
		{plugbus.ErrClosed, plugbus.CodeUnavailable, false},
	} {
		if errors.Is(err, known.err) {
			return known.code, known.retryable
		}
	}
	return plugbus.CodeUnknown, false
}
