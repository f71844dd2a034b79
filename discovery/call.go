package discovery

import (
	"context"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/typed"
)

// A Caller calls capabilities and gets replies of the type A: a plugin's session.
type Caller[A interface{ Data() any }] interface {
	Call(ctx context.Context, capability string, request any, options ...CallOption) (A, error)
}

// Call calls a capability and returns the reply as a Resp: the payload itself if
// that is a Resp, or what JSON in a json.RawMessage or []byte decodes to, with no
// field unknown, no key twice and nothing after it. The error is that of the
// caller, or a [*plugbus.TypeError].
func Call[Resp any, A interface{ Data() any }](ctx context.Context, hub Caller[A], capability string, request any, options ...CallOption) (Resp, error) {
	reply, err := hub.Call(ctx, capability, request, options...)
	if err != nil {
		var none Resp
		return none, err
	}
	return typed.As[Resp](fmt.Sprintf("the reply of capability %q", plugbus.CutText(capability)), reply.Data())
}

// A CallOption changes one call of a capability.
type CallOption interface{ applyCall(*CallOptions) error }

// CallOptions are what the options of a call add up to.
type CallOptions struct {
	Require Terms // beside the capability
	Prefer  Terms
	Timeout time.Duration // of the whole call; 0 is the default of whoever carries it
}

// CallOptionsOf adds options up, for whoever carries calls. Of two options of one
// kind the later holds. The error is an [*InvalidError].
func CallOptionsOf(options ...CallOption) (CallOptions, error) {
	var o CallOptions
	for i, option := range options {
		if option == nil {
			return CallOptions{}, &InvalidError{What: "call", Field: "CallOption", Problem: fmt.Sprintf("number %d is nil; expected an option of package discovery", i)}
		}
		if err := option.applyCall(&o); err != nil {
			return CallOptions{}, err
		}
	}
	return o, nil
}

// Require calls only a provider that meets the terms, which are about the
// capability that is called and those that they name.
func Require(t Terms) CallOption { return requireOption{t} }

type requireOption struct{ t Terms }

func (opt requireOption) applyCall(o *CallOptions) error {
	o.Require = opt.t
	return nil
}

// Prefer calls those providers first that meet the terms best.
func Prefer(t Terms) CallOption { return preferOption{t} }

type preferOption struct{ t Terms }

func (opt preferOption) applyCall(o *CallOptions) error {
	o.Prefer = opt.t
	return nil
}

// Timeout bounds the whole call, whichever providers it tries.
func Timeout(d time.Duration) CallOption { return timeoutOption{d} }

type timeoutOption struct{ d time.Duration }

func (opt timeoutOption) applyCall(o *CallOptions) error {
	if opt.d <= 0 {
		return &InvalidError{What: "call", Field: "Timeout", Problem: fmt.Sprintf("it is %v; expected more than 0", opt.d)}
	}
	o.Timeout = opt.d
	return nil
}
