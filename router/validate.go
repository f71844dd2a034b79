package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
	"github.com/plugbus/plugbus/internal/schema"
	"github.com/plugbus/plugbus/internal/topic"
)

// Validate checks the payloads of messages against JSON Schemas, by the type of
// the message or the topic of the publication. Types without a schema pass. A
// payload counts as what encoding/json would make of it, and a json.RawMessage as
// the JSON in it; a []byte that holds JSON counts as both. What was checked is what goes on: a copy, unless the payload is
// [plugbus.Shared]. Middleware that comes after it can still change that.
//
// A payload that does not satisfy its schema is refused with ReasonMiddleware, and
// the error matches [plugbus.ErrInvalid]; one that is over the sender's limits, or
// cannot be sent at all, is refused likewise, with that cause. The error of Validate
// names every type that is none and every schema that cannot be used, and matches
// [plugbus.ErrInvalid] too.
func Validate(schemas map[string]json.RawMessage) (Middleware, error) {
	compiled := make(map[string]*schema.Schema, len(schemas))
	var errs []error
	for _, typ := range slices.Sorted(maps.Keys(schemas)) {
		s, err := schema.Compile(schemas[typ])
		if err = errors.Join(topic.CheckName(typ), err); err != nil {
			errs = append(errs, fmt.Errorf("router: validate %q: %w", plugbus.CutText(typ), err))
		}
		compiled[typ] = s
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(next Deliver) Deliver {
		return func(ctx context.Context, m *Draft) (Response, error) {
			s := compiled[m.Type]
			if s == nil {
				return next(ctx, m)
			}
			if err := m.check(ctx, s); err != nil {
				return Response{}, err
			}
			return next(ctx, m)
		}
	}, nil
}

// check replaces the payload by a copy, within the limits of the sender, and
// checks that.
func (d *Draft) check(ctx context.Context, s *schema.Schema) error {
	if shared, ok := d.Data.(plugbus.SharedValue); ok {
		return s.ValidatePayload(shared)
	}
	c, verb, object := d.trip.client, plugbus.VerbSend, d.To
	if d.Kind() == KindPublish {
		verb, object = plugbus.VerbPublish, d.Type
	}
	frozen, _, err := payload.Freeze(d.Data, &c.guard.PermitVia(c.cause(ctx), verb, object).Payload)
	if err != nil {
		return err
	}
	d.Data = payload.Thaw(frozen)
	return s.ValidatePayload(d.Data)
}
