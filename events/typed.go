package events

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/typed"
)

// A Subscriber subscribes: a [*Client], or a plugin's session.
type Subscriber interface {
	Subscribe(pattern string, handler Handler, options ...SubscribeOption) (*Subscription, error)
}

// Subscribe subscribes to events that carry a T. The value of fn is the
// handler's own. An event whose payload is no T, and is no JSON of a T either,
// fails with a [*plugbus.TypeError].
func Subscribe[T any](hub Subscriber, pattern string, fn func(ctx context.Context, value T, e Event) error, options ...SubscribeOption) (*Subscription, error) {
	if fn == nil {
		return nil, fmt.Errorf("subscribe to %q: %w", plugbus.CutText(pattern), ErrNilHandler)
	}
	return hub.Subscribe(pattern, func(ctx context.Context, e Event) error {
		value, err := Decode[T](e)
		if err != nil {
			return err
		}
		return fn(ctx, value, e)
	}, options...)
}

// Decode returns the payload of an event as a T: the payload itself if that is
// a T, or what JSON in a json.RawMessage or []byte decodes to, with no field
// unknown, no key twice and nothing after it. The error is a [*plugbus.TypeError].
func Decode[T any](e Event) (T, error) {
	data := e.Data()
	if same, ok := data.(T); ok { // The common case, which needs no name for an error.
		return same, nil
	}
	return typed.As[T](fmt.Sprintf("event %q", e.Name()), data)
}
