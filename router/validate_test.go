package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/schema"
	"github.com/plugbus/plugbus/router"
)

type order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

var orders = map[string]json.RawMessage{
	"order": json.RawMessage(`{
		"type": "object", "required": ["item", "count"], "additionalProperties": false,
		"properties": {"item": {"type": "string", "minLength": 1}, "count": {"type": "integer", "minimum": 1}}
	}`),
	"text": json.RawMessage(`{"type": "string", "maxLength": 3}`),
}

func validator(t testing.TB, schemas map[string]json.RawMessage) router.Middleware {
	t.Helper()
	m, err := router.Validate(schemas)
	require.NoError(t, err)
	return m
}

// TestValidate shows what satisfies a schema and what does not, and that what does
// not is refused with the place in it.
func TestValidate(t *testing.T) {
	for _, test := range []struct {
		typ  string
		data any
		says string // "" if it passes
	}{
		{"order", order{"tea", 1}, ""},
		{"order", &order{"tea", 1}, ""},
		{"order", map[string]any{"item": "tea", "count": 1}, ""},
		{"order", json.RawMessage(`{"item": "tea", "count": 1}`), ""},
		{"order", plugbus.Shared(&order{"tea", 1}), ""},
		{"order", order{"tea", 0}, `at "/count"`},
		{"order", &order{"", 1}, `at "/item"`},
		{"order", map[string]any{"item": "tea"}, "count"},
		{"order", map[string]any{"item": "tea", "count": 1, "more": 1}, "more"},
		{"order", json.RawMessage(`{"item": "tea", "count": 0}`), `at "/count"`},
		{"order", json.RawMessage(`{"item": "tea", "count": 1, "count": 0}`), "count"},
		{"order", plugbus.Shared(&order{"tea", 0}), `at "/count"`},
		{"order", nil, "null"},
		{"order", make(chan int), "a channel"},
		{"text", "abc", ""},
		{"text", "abcd", "4"},
		{"text", 7, "string"},
		{"text", []byte("7"), "string"},
		{"other", 7, ""},
		{"other", nil, ""},
	} {
		for _, scope := range [][]router.UseOption{nil, {router.ForTarget("b")}} {
			synctest.Test(t, func(t *testing.T) {
				what := fmt.Sprintf("%+v", test)
				r := newRouter(t, router.Options{})
				b, c := join(t, r, "b"), join(t, r, "a")
				got := &diary{}
				_, err := b.HandleDefault(got.write)
				require.NoError(t, err)
				_, err = b.HandleTopic("**", func(ctx context.Context, m router.Message) error {
					_, _ = got.write(ctx, m)
					return nil
				})
				require.NoError(t, err)
				use(t, r, "schemas", validator(t, orders), scope...)
				_, err = c.Send(t.Context(), "b", test.typ, test.data)
				receipt, pubErr := c.Publish(t.Context(), test.typ, test.data)
				require.NoError(t, r.Idle(t.Context()))
				if test.says == "" {
					require.NoError(t, err, what)
					require.NoError(t, pubErr, what)
					require.Len(t, got.read(), 2, what)
					for _, m := range got.read() {
						if s, ok := test.data.(plugbus.SharedValue); ok {
							require.Same(t, s.Value(), m.Data())
						} else {
							require.Equal(t, test.data, m.Data(), what)
						}
					}
					return
				}
				require.Empty(t, got.read(), what)
				require.Equal(t, plugbus.ReasonMiddleware, denial(t, err).Reason, what)
				require.ErrorContains(t, err, test.says, what)
				require.EqualValues(t, 2, r.Ledger().Refused)
				require.Equal(t, test.says != "a channel", errors.Is(err, plugbus.ErrInvalid), what)
				if scope != nil && test.says != "a channel" { // With which nothing is published at all.
					require.Equal(t, []string{"b"}, receipt.Refused, what)
					return
				}
				require.ErrorContains(t, pubErr, test.says, what)
			})
		}
	}
}

// TestValidateErrors shows that the cause is the schema's error.
func TestValidateErrors(t *testing.T) {
	r := newRouter(t, router.Options{})
	join(t, r, "b")
	c := join(t, r, "a")
	use(t, r, "schemas", validator(t, orders))
	err := c.Post(t.Context(), "b", "order", order{"tea", 0})
	var cause *schema.Error
	require.ErrorAs(t, err, &cause)
	require.Equal(t, "/count", cause.Pointer)
}

// TestValidateChecksWhatGoesOn shows that a payload which its sender changes after
// the check is not what is delivered.
func TestValidateChecksWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		got := &diary{}
		handle(t, b, "order", got.write)
		mine := &order{"tea", 1}
		use(t, r, "schemas", validator(t, orders))
		use(t, r, "slow", rewrite(func(*router.Draft) { mine.Count = -1 }))
		_, err := c.Send(t.Context(), "b", "order", mine)
		require.NoError(t, err)
		require.Equal(t, &order{"tea", 1}, got.data()[0])
	})
}

// TestValidateIsBounded shows that what is too much for the sender is no work, and
// that the limits of its policy hold and not those of the default.
func TestValidateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, law := newRouter(t, router.Options{}), newRules()
		b, c := join(t, r, "b"), join(t, r, "a", law.guard("a"))
		handle(t, b, "any", func(context.Context, router.Message) (any, error) { return nil, nil })
		use(t, r, "schemas", validator(t, map[string]json.RawMessage{"any": json.RawMessage(`true`)}))
		type list struct{ Next *list }
		cycle := &list{}
		cycle.Next = cycle
		for _, data := range []any{cycle, make([]struct{}, 1<<40), strings.Repeat("x", 2<<20)} {
			_, err := c.Send(t.Context(), "b", "any", data)
			require.Equal(t, plugbus.ReasonMiddleware, denial(t, err).Reason)
		}
		law.change(func() { law.payload.MaxBytes = 4 << 20 })
		_, err := c.Send(t.Context(), "b", "any", strings.Repeat("x", 2<<20))
		require.NoError(t, err)
	})
}

// TestValidateBadSchemas reports everything that is wrong at once.
func TestValidateBadSchemas(t *testing.T) {
	m, err := router.Validate(map[string]json.RawMessage{
		"good":  json.RawMessage(`{}`),
		"bad":   json.RawMessage(`{"type": "strin"}`),
		"worse": json.RawMessage(`{`),
		"a b":   json.RawMessage(`{}`),
		"none":  nil,
	})
	require.Nil(t, m)
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, says := range []string{`validate "bad"`, `validate "worse"`, `validate "a b"`, `validate "none"`} {
		require.ErrorContains(t, err, says)
	}
	require.NotContains(t, err.Error(), `"good"`)
	m, err = router.Validate(nil)
	require.NoError(t, err)
	require.NotNil(t, m)
}
