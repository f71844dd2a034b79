package router

import (
	"context"
	"fmt"
	"iter"

	"github.com/plugbus/plugbus/internal/typed"
)

// A Registrar sets handlers: a [*Client], or a plugin's session.
type Registrar interface {
	Handle(typ string, handler Handler, options ...HandleOption) (*Route, error)
}

// A StreamRegistrar sets handlers of streams: a [*Client], or a plugin's session.
type StreamRegistrar interface {
	HandleStream(typ string, handler StreamHandler, options ...HandleOption) (*Route, error)
}

// A Sender sends messages: a [*Client], or a plugin's session.
type Sender interface {
	Send(ctx context.Context, to, typ string, data any, options ...SendOption) (Response, error)
}

// A Streamer opens streams: a [*Client], or a plugin's session.
type Streamer interface {
	Stream(ctx context.Context, to, typ string, data any, options ...SendOption) iter.Seq2[Response, error]
}

// Handle handles messages that carry a Req, and replies with a Resp. The value
// that fn gets is its own. A payload that is no Req, and is no JSON of a Req
// either, is answered with plugbus.CodeInvalid.
func Handle[Req, Resp any](hub Registrar, typ string, fn func(ctx context.Context, request Req) (Resp, error), options ...HandleOption) (*Route, error) {
	if fn == nil {
		return hub.Handle(typ, nil, options...)
	}
	return hub.Handle(typ, func(ctx context.Context, m Message) (any, error) {
		request, err := Decode[Req](m)
		if err != nil {
			return nil, err
		}
		return fn(ctx, request)
	}, options...)
}

// HandleStream handles messages that carry a Req, and replies with as many chunks
// as fn gives to yield. A payload that is no Req is answered as [Handle] does.
func HandleStream[Req, Chunk any](hub StreamRegistrar, typ string, fn func(ctx context.Context, request Req, yield func(Chunk) bool) error, options ...HandleOption) (*Route, error) {
	if fn == nil {
		return hub.HandleStream(typ, nil, options...)
	}
	return hub.HandleStream(typ, func(ctx context.Context, m Message, yield func(any) bool) error {
		request, err := Decode[Req](m)
		if err != nil {
			return err
		}
		return fn(ctx, request, func(chunk Chunk) bool { return yield(chunk) })
	}, options...)
}

// Send sends a request, and returns the reply as a Resp. If the reply is none, the
// error is a [*plugbus.TypeError]; otherwise it is that of [Client.Send].
func Send[Resp any](ctx context.Context, hub Sender, to, typ string, request any, options ...SendOption) (Resp, error) {
	reply, err := hub.Send(ctx, to, typ, request, options...)
	if err != nil {
		var none Resp
		return none, err
	}
	return typed.As[Resp](fmt.Sprintf("the reply of %q to %q", to, typ), reply.Data())
}

// Stream opens a stream, and returns its chunks as Ts. A chunk that is none ends
// it, with a [*plugbus.TypeError].
func Stream[T any](ctx context.Context, hub Streamer, to, typ string, request any, options ...SendOption) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for chunk, err := range hub.Stream(ctx, to, typ, request, options...) {
			if err != nil {
				yield(none, err)
				return
			}
			value, err := typed.As[T](fmt.Sprintf("a chunk of %q for %q", to, typ), chunk.Data())
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(value, nil) {
				return
			}
		}
	}
}

// Decode returns the payload of a message as a T: the payload itself if that is a
// T, or what JSON in a json.RawMessage or []byte decodes to, with no field
// unknown, no key twice and nothing after it. The error is a [*plugbus.TypeError].
func Decode[T any](m Message) (T, error) {
	return typed.As[T](fmt.Sprintf("message %q", m.Type()), m.Data())
}

// DecodeReply returns a reply as a T, as [Decode] does with a message.
func DecodeReply[T any](r Response) (T, error) {
	return typed.As[T](fmt.Sprintf("the reply of %q", r.From()), r.Data())
}
