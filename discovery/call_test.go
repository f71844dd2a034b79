package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// A reply is what a session returns from Call, and a session one that answers
// with the request.
type (
	reply   struct{ data any }
	session struct {
		err  error
		seen discovery.CallOptions
	}
)

func (r reply) Data() any { return r.data }

func (s *session) Call(_ context.Context, _ string, request any, options ...discovery.CallOption) (reply, error) {
	var err error
	if s.seen, err = discovery.CallOptionsOf(options...); err != nil {
		return reply{}, err
	}
	return reply{request}, s.err
}

// TestCall shows a typed call: the type of the reply is inferred from the session.
func TestCall(t *testing.T) {
	t.Parallel()
	type page struct{ Number int }
	s := &session{}
	for _, data := range []any{page{7}, json.RawMessage(`{"Number":7}`), []byte(`{"Number":7}`)} {
		got, err := discovery.Call[page](t.Context(), s, "pdf", data)
		require.NoError(t, err)
		require.Equal(t, page{7}, got)
	}
	got, err := discovery.Call[page](t.Context(), s, "pdf", json.RawMessage(`{"Number":7,"Size":1}`))
	mismatch, ok := errors.AsType[*plugbus.TypeError](err)
	require.True(t, ok)
	require.Equal(t, `the reply of capability "pdf"`, mismatch.What)
	require.Zero(t, got)

	s.err = plugbus.ErrClosed
	_, err = discovery.Call[page](t.Context(), s, "pdf", page{})
	require.ErrorIs(t, err, plugbus.ErrClosed)
}

// TestCallOptions shows what the options add up to, and that a mistake is told.
func TestCallOptions(t *testing.T) {
	t.Parallel()
	s := &session{}
	cheap, near := discovery.Terms{MaxCost: new(1.0)}, discovery.Terms{Categories: []string{"near"}}
	_, err := discovery.Call[int](t.Context(), s, "pdf", 1, discovery.Require(near), discovery.Require(cheap), discovery.Prefer(near), discovery.Timeout(time.Second))
	require.NoError(t, err)
	require.Equal(t, discovery.CallOptions{Require: cheap, Prefer: near, Timeout: time.Second}, s.seen)
	for _, bad := range []discovery.CallOption{nil, discovery.Timeout(0), discovery.Timeout(-1)} {
		_, err = discovery.Call[int](t.Context(), s, "pdf", 1, bad)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	}
}

// TestResolve shows that the options of a call choose the provider.
func TestResolve(t *testing.T) {
	t.Parallel()
	reader := market(t, map[string]discovery.Capability{
		"a": {Cost: new(5.0)}, "b": {Cost: new(1.0), Categories: []string{"near"}}, "c": {Cost: new(1.0)},
	})
	for _, test := range []struct {
		options []discovery.CallOption
		want    []string
	}{
		{nil, []string{"a", "b", "c"}},
		{[]discovery.CallOption{discovery.Require(discovery.Terms{MaxCost: new(2.0)})}, []string{"b", "c"}},
		{[]discovery.CallOption{discovery.Prefer(discovery.Terms{Categories: []string{"near"}})}, []string{"b", "a", "c"}},
		{[]discovery.CallOption{discovery.Require(discovery.Terms{Capabilities: []string{"ps"}})}, []string{}},
	} {
		o, err := discovery.CallOptionsOf(test.options...)
		require.NoError(t, err)
		matches, err := reader.Resolve("pdf", o)
		require.NoError(t, err)
		require.Equal(t, test.want, ids(matches))
	}
	_, err := reader.Resolve("pdf", discovery.CallOptions{Require: discovery.Terms{Version: "abc"}})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
}
