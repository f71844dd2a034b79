package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Ensure returns a view of a store that the plugin owns: of the one that is there, or of
// a new one as [Client.Create] makes it. So a plugin can begin with the same call in
// every run. The validator is set again. The lists of a store that is there stay as they
// are; if anything else of it is not as the config says, or another plugin owns it, the
// error matches [ErrExists]. Otherwise the errors are those of Create and [Client.Open].
func (c *Client) Ensure(ctx context.Context, name string, config Config) (*View, error) {
	if s := c.db.space(name); s != nil && s.owner == c.id {
		return c.take(ctx, s, config)
	}
	v, err := c.Create(ctx, name, config)
	if s := c.db.space(name); errors.Is(err, ErrExists) && s != nil && s.owner == c.id {
		return c.take(ctx, s, config) // Another call of the plugin was faster.
	}
	return v, err
}

// take opens a store that the plugin owns, if it is as the config says.
func (c *Client) take(ctx context.Context, s *space, config Config) (*View, error) {
	v, err := c.Open(ctx, s.name)
	if err != nil {
		return nil, err
	}
	check := config.Validator
	if err := errors.Join(config.check(), s.differs(&config)); err != nil {
		return nil, v.failed("ensure", err)
	}
	if check != nil {
		if err := v.SetValidator(ctx, check); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// differs says in what a store is not as a config says, which has its defaults.
func (s *space) differs(c *Config) error {
	s.mu.RLock()
	guarded := s.guarded
	s.mu.RUnlock()
	is := &s.config
	for _, field := range []struct {
		name     string
		is, want any
		same     bool
	}{
		{"Persistent", is.Persistent, c.Persistent, is.Persistent == c.Persistent},
		{"Schema", "another", "this", bytes.Equal(is.Schema, c.Schema)},
		{"TTL", is.TTL, c.TTL, is.TTL == c.TTL},
		{"MaxKeys", is.MaxKeys, c.MaxKeys, is.MaxKeys == c.MaxKeys},
		{"MaxBytes", is.MaxBytes, c.MaxBytes, is.MaxBytes == c.MaxBytes},
		{"MaxValueBytes", is.MaxValueBytes, c.MaxValueBytes, is.MaxValueBytes == c.MaxValueBytes},
		{"History", is.History, c.History, is.History == c.History},
		{"HistoryBytes", is.HistoryBytes, c.HistoryBytes, is.HistoryBytes == c.HistoryBytes},
		{"Validator", "a function", nil, !guarded || c.Validator != nil},
	} {
		if !field.same {
			return fmt.Errorf("%w with another config: %s is %v, and %v was asked for; open it as it is, or drop it first", ErrExists, field.name, field.is, field.want)
		}
	}
	return nil
}
