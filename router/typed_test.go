package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

type question struct {
	Text string `json:"text"`
}

type answer struct {
	Length int `json:"length"`
}

func measure(_ context.Context, q question) (answer, error) {
	if q.Text == "" {
		return answer{}, &plugbus.RemoteError{Code: plugbus.CodeNotFound, Message: "no text"}
	}
	return answer{len(q.Text)}, nil
}

// TestTypedHandle shows what a typed handler takes: its type, and strict JSON of
// it. Anything else is the sender's mistake.
func TestTypedHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		route, err := router.Handle(b, "measure", measure)
		require.NoError(t, err)
		require.Equal(t, "measure", route.Type())
		for _, test := range []struct {
			data any
			code plugbus.Code // "" if it passes
			says string
		}{
			{question{"four"}, "", ""},
			{json.RawMessage(`{"text": "four"}`), "", ""},
			{[]byte(`{"text": "four"}`), "", ""},
			{question{}, plugbus.CodeNotFound, "no text"},
			{"four", plugbus.CodeInvalid, `message "measure" carries a string, but a router_test.question was asked for`},
			{&question{"four"}, plugbus.CodeInvalid, `carries a *router_test.question`},
			{nil, plugbus.CodeInvalid, `carries a <nil>`},
			{json.RawMessage(`{"text": "four", "more": 1}`), plugbus.CodeInvalid, `unknown field "more"`},
			{json.RawMessage(`{"text": "four", "text": "five"}`), plugbus.CodeInvalid, `text`},
			{json.RawMessage(`{"text": 4}`), plugbus.CodeInvalid, `text`},
			{json.RawMessage(`{"text": "four"} x`), plugbus.CodeInvalid, ``},
		} {
			reply, err := router.Send[answer](t.Context(), c, "b", "measure", test.data)
			if test.code == "" {
				require.NoError(t, err)
				require.Equal(t, answer{4}, reply)
				continue
			}
			require.Equal(t, test.code, remote(t, err).Code, "%v", err)
			require.False(t, remote(t, err).Retryable)
			require.ErrorContains(t, err, test.says)
			require.Zero(t, reply)
		}
		_, err = router.Handle(b, "measure", measure)
		require.ErrorIs(t, err, router.ErrHandlerExists)
		_, err = router.Handle[question, answer](b, "nil", nil)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		_, err = router.Handle(b, "bad", measure, router.Concurrent(0))
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		_, err = router.Handle(b, "good", measure, router.Concurrent(2))
		require.NoError(t, err)
		route.Remove()
		_, err = router.Send[answer](t.Context(), c, "b", "measure", question{"four"})
		require.ErrorIs(t, err, router.ErrNoHandler)
	})
}

// TestTypedHandleOwnsItsValue shows that what a handler does to its request is
// seen by nobody else.
func TestTypedHandleOwnsItsValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		_, err := router.Handle(b, "sort", func(_ context.Context, list []int) ([]int, error) {
			list[0] = 7
			return list, nil
		})
		require.NoError(t, err)
		mine := []int{1, 2}
		reply, err := router.Send[[]int](t.Context(), c, "b", "sort", mine)
		require.NoError(t, err)
		require.Equal(t, []int{7, 2}, reply)
		require.Equal(t, []int{1, 2}, mine)
	})
}

// TestTypedSend shows that a reply of another type is an error, which names both.
func TestTypedSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		handle(t, b, "echo", echo)
		handle(t, b, "fail", func(context.Context, router.Message) (any, error) { return nil, errors.New("no") })
		for _, test := range []struct {
			data any
			says string // "" if it passes
		}{
			{answer{4}, ""},
			{json.RawMessage(`{"length": 4}`), ""},
			{[]byte(`{"length": 4}`), ""},
			{4, `the reply of "b" to "echo" carries a int, but a router_test.answer was asked for`},
			{nil, `carries a <nil>`},
			{json.RawMessage(`{"size": 4}`), `unknown field "size"`},
		} {
			reply, err := router.Send[answer](t.Context(), c, "b", "echo", test.data)
			if test.says == "" {
				require.NoError(t, err)
				require.Equal(t, answer{4}, reply)
				continue
			}
			var wrong *plugbus.TypeError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, "router_test.answer", wrong.Want)
			require.ErrorContains(t, err, test.says)
			require.Zero(t, reply)
		}
		_, err := router.Send[answer](t.Context(), c, "b", "fail", nil)
		require.Equal(t, plugbus.CodeUnknown, remote(t, err).Code)
		_, err = router.Send[answer](t.Context(), c, "nobody", "echo", nil)
		require.ErrorIs(t, err, router.ErrUnknownTarget)
		_, err = router.Send[answer](t.Context(), c, "b", "echo", nil, nil)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
		value, err := router.Send[any](t.Context(), c, "b", "echo", 4)
		require.NoError(t, err)
		require.Equal(t, 4, value)
	})
}

// TestTypedStream shows that chunks arrive as what was asked for, and that one of
// another type ends the stream, for its handler too.
func TestTypedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		stopped := 0
		_, err := b.HandleStream("each", func(_ context.Context, m router.Message, yield func(any) bool) error {
			for _, chunk := range m.Data().([]any) {
				if !yield(chunk) {
					stopped++
					return nil
				}
			}
			return errors.New("the end")
		})
		require.NoError(t, err)
		read := func(most int, chunks ...any) (got []answer, err error) {
			for chunk, err := range router.Stream[answer](t.Context(), c, "b", "each", chunks) {
				if err != nil {
					require.Zero(t, chunk)
					return got, err
				}
				if got = append(got, chunk); len(got) == most {
					break
				}
			}
			require.NoError(t, r.Idle(t.Context()))
			return got, nil
		}
		got, err := read(9, answer{1}, json.RawMessage(`{"length": 2}`), answer{3})
		require.ErrorContains(t, err, "the end")
		require.Equal(t, []answer{{1}, {2}, {3}}, got)
		require.Zero(t, stopped)

		many := make([]any, 100)
		for i := range many {
			many[i] = answer{i}
		}
		got, err = read(2, many...)
		require.NoError(t, err)
		require.Equal(t, []answer{{0}, {1}}, got)
		require.Equal(t, 1, stopped)

		many[1] = "odd"
		got, err = read(100, many...)
		var wrong *plugbus.TypeError
		require.ErrorAs(t, err, &wrong)
		require.EqualError(t, err, `a chunk of "b" for "each" carries a string, but a router_test.answer was asked for`)
		require.Equal(t, []answer{{0}}, got)
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, 2, stopped)

		for _, err := range router.Stream[answer](t.Context(), c, "nobody", "each", nil) {
			require.ErrorIs(t, err, router.ErrUnknownTarget)
		}
	})
}

// TestDecode reads a payload by its type in a handler that is not typed.
func TestDecode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		var got []answer
		var errs []error
		_, err := b.HandleTopic("news", func(_ context.Context, m router.Message) error {
			value, err := router.Decode[answer](m)
			got, errs = append(got, value), append(errs, err)
			return err
		})
		require.NoError(t, err)
		for _, data := range []any{answer{1}, json.RawMessage(`{"length": 2}`), "three"} {
			_, err := c.Publish(t.Context(), "news", data)
			require.NoError(t, err)
		}
		require.NoError(t, r.Idle(t.Context()))
		require.Equal(t, []answer{{1}, {2}, {}}, got)
		require.NoError(t, errors.Join(errs[:2]...))
		require.EqualError(t, errs[2], `message "news" carries a string, but a router_test.answer was asked for`)
		_, err = router.Decode[answer](router.Message{})
		require.EqualError(t, err, `message "" carries a <nil>, but a router_test.answer was asked for`)
	})
}

// TestTypedHandleStream shows both typed ends of a stream, and what each says of
// what does not fit.
func TestTypedHandleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		stopped := false
		_, err := router.HandleStream(b, "letters", func(_ context.Context, q question, yield func(answer) bool) error {
			for i := range len(q.Text) {
				if !yield(answer{i}) {
					stopped = true
					return nil
				}
			}
			return &plugbus.RemoteError{Code: plugbus.CodeNotFound, Message: "no more"}
		})
		require.NoError(t, err)
		var got []int
		var last error
		for chunk, err := range router.Stream[answer](t.Context(), c, "b", "letters", question{"abc"}) {
			if last = err; err == nil {
				got = append(got, chunk.Length)
			}
		}
		require.Equal(t, []int{0, 1, 2}, got)
		require.EqualError(t, last, `plugin "b": not_found: no more`)
		for _, err := range router.Stream[answer](t.Context(), c, "b", "letters", 7) {
			require.ErrorContains(t, err, "carries a int, but a router_test.question was asked for")
		}
		for _, err := range router.Stream[answer](t.Context(), c, "b", "letters", question{string(make([]byte, 100))}) {
			require.NoError(t, err)
			break
		}
		require.NoError(t, r.Idle(t.Context()))
		require.True(t, stopped)
		_, err = router.HandleStream[question, answer](b, "nothing", nil)
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	})
}

func TestDecodeReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		b, c := join(t, r, "b"), join(t, r, "a")
		handle(t, b, "echo", echo)
		reply, err := c.Send(t.Context(), "b", "echo", json.RawMessage(`{"text": "four"}`))
		require.NoError(t, err)
		q, err := router.DecodeReply[question](reply)
		require.NoError(t, err)
		require.Equal(t, question{"four"}, q)
		_, err = router.DecodeReply[answer](reply)
		require.ErrorContains(t, err, `the reply of "b" carries a json.RawMessage, but a router_test.answer was asked for`)
	})
}
