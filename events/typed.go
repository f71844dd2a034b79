package events

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/strictjson"
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
	var value T
	data := e.Data()
	if same, ok := data.(T); ok {
		return same, nil
	}
	mismatch := func(err error) error {
		return &plugbus.TypeError{What: fmt.Sprintf("event %q", e.Name()), Got: fmt.Sprintf("%T", data), Want: reflect.TypeFor[T]().String(), Err: err}
	}
	var text []byte
	switch data := data.(type) {
	case json.RawMessage:
		text = data
	case []byte:
		text = data
	default:
		return value, mismatch(nil)
	}
	if err := strictjson.Decode(text, &value); err != nil {
		return value, mismatch(err)
	}
	return value, nil
}
