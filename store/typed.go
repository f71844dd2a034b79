package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/strictjson"
)

// A Codec turns values into bytes and back. It runs in the call of whoever uses the
// typed view, which is the plugin that chose it.
type Codec interface {
	Encode(value any) ([]byte, error)
	Decode(data []byte, into any) error // a pointer
}

// JSON is the codec of [Typed]. It reads strictly: no unknown fields, no duplicate keys,
// nothing after the value.
type JSON struct{}

// Encode implements [Codec]. It leaves "<" and ">" as they are, so that the content
// checks see them.
func (JSON) Encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Decode implements [Codec].
func (JSON) Decode(data []byte, into any) error { return strictjson.Decode(data, into) }

// A TypedView is a [View] for values of one type. Its zero value is of no use: see
// [Typed].
type TypedView[T any] struct {
	view  *View
	codec Codec
}

// Typed returns a view of values of type T, which are JSON in the store. Its methods do
// what those of the view do; a value that does not decode as a T is a
// [*plugbus.TypeError].
func Typed[T any](v *View) TypedView[T] { return TypedView[T]{v, JSON{}} }

// TypedBy is [Typed] with another codec. If it is nil, it is [JSON].
func TypedBy[T any](v *View, codec Codec) TypedView[T] {
	if codec == nil {
		codec = JSON{}
	}
	return TypedView[T]{v, codec}
}

// View returns the view of bytes.
func (t TypedView[T]) View() *View { return t.view }

// Get returns the value of a key, and its entry. See [View.Get].
func (t TypedView[T]) Get(ctx context.Context, key string) (T, Entry, error) {
	e, err := t.view.Get(ctx, key)
	if err != nil {
		var none T
		return none, e, err
	}
	value, err := t.Decode(e)
	return value, e, err
}

// Decode returns the value of an entry, such as one of a [Change].
func (t TypedView[T]) Decode(e Entry) (T, error) {
	var value T
	if err := t.codec.Decode(e.Value(), &value); err != nil {
		var none T // A decoder that fails may have filled in a half.
		return none, &plugbus.TypeError{
			What: fmt.Sprintf("key %q of store %q", plugbus.CutText(e.Key()), t.view.Name()),
			Got:  fmt.Sprintf("[]byte of %d bytes", len(e.Text())), Want: reflect.TypeFor[T]().String(), Err: err,
		}
	}
	return value, nil
}

func (t TypedView[T]) encode(act, key string, value T) ([]byte, error) {
	data, err := t.codec.Encode(value)
	if err != nil {
		return nil, t.view.keyed(act, key, fmt.Errorf("%w: the value cannot be encoded: %w", plugbus.ErrInvalid, err))
	}
	return data, nil
}

// Set makes value what the key has. See [View.Set].
func (t TypedView[T]) Set(ctx context.Context, key string, value T, options ...SetOption) (Entry, error) {
	data, err := t.encode("set", key, value)
	if err != nil {
		return Entry{}, err
	}
	return t.view.Set(ctx, key, data, options...)
}

// Create is Set for a key that has no entry. See [View.Create].
func (t TypedView[T]) Create(ctx context.Context, key string, value T, options ...SetOption) (Entry, error) {
	data, err := t.encode("create", key, value)
	if err != nil {
		return Entry{}, err
	}
	return t.view.Create(ctx, key, data, options...)
}

// Update is Set for an entry of this revision. See [View.Update].
func (t TypedView[T]) Update(ctx context.Context, key string, value T, revision uint64, options ...SetOption) (Entry, error) {
	data, err := t.encode("update", key, value)
	if err != nil {
		return Entry{}, err
	}
	return t.view.Update(ctx, key, data, revision, options...)
}

// Modify has f make a new value of the old one, or of the zero value if there is none,
// and sets that; if somebody else was faster, it begins anew, until ctx is done. An
// error of f ends it, and is returned.
func (t TypedView[T]) Modify(ctx context.Context, key string, f func(old T) (T, error), options ...SetOption) (Entry, error) {
	if f == nil {
		return Entry{}, t.view.keyed("modify", key, newOptionError("the function", "nil", "a func(old T) (T, error)"))
	}
	for {
		old, e, err := t.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Entry{}, err
		}
		value, err := f(old)
		if err != nil {
			return Entry{}, err
		}
		if e.Exists() {
			e, err = t.Update(ctx, key, value, e.Revision(), options...)
		} else {
			e, err = t.Create(ctx, key, value, options...)
		}
		if !errors.Is(err, ErrConflict) {
			return e, err
		}
	}
}

// Delete takes the entry of a key away. See [View.Delete].
func (t TypedView[T]) Delete(ctx context.Context, key string, options ...DeleteOption) error {
	return t.view.Delete(ctx, key, options...)
}

// All returns the selected keys with their values. An error is the last pair, with the
// key of the entry that does not decode if it is about one. See [View.Entries].
func (t TypedView[T]) All(ctx context.Context, sel Selection) iter.Seq2[TypedEntry[T], error] {
	return func(yield func(TypedEntry[T], error) bool) {
		for e, err := range t.view.Entries(ctx, sel) {
			typed := TypedEntry[T]{Entry: e}
			if err == nil {
				typed.Value, err = t.Decode(e)
			}
			if !yield(typed, err) || err != nil {
				return
			}
		}
	}
}

// A TypedEntry is an entry with its value decoded.
type TypedEntry[T any] struct {
	Entry

	Value T
}
