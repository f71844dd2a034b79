package store_test

import (
	"context"
	"encoding/gob"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

type note struct {
	Text  string   `json:"text"`
	Words int      `json:"words"`
	Tags  []string `json:"tags,omitempty"`
}

func TestTyped(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := made(t, member(t, openDB(t, store.Options{}), "a"), "notes", store.Config{})
	notes := store.Typed[note](v)
	require.Same(t, v, notes.View())
	want := note{Text: "<b>&", Words: 1, Tags: []string{"x"}}
	e, err := notes.Set(ctx, "k", want)
	require.NoError(t, err)
	require.Equal(t, `{"text":"<b>&","words":1,"tags":["x"]}`, e.Text())
	got, same, err := notes.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, e, same)
	_, err = notes.Create(ctx, "k", want)
	require.ErrorIs(t, err, store.ErrExists)
	_, err = notes.Update(ctx, "k", want, 7)
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = notes.Update(ctx, "k", note{Text: "new"}, e.Revision())
	require.NoError(t, err)
	_, err = notes.Create(ctx, "l", want)
	require.NoError(t, err)
	var texts []string
	for n, err := range notes.All(ctx, store.All()) {
		require.NoError(t, err)
		texts = append(texts, n.Key()+" "+n.Value.Text)
	}
	require.Equal(t, []string{"k new", "l <b>&"}, texts)
	require.NoError(t, notes.Delete(ctx, "k"))
	none, e, err := notes.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Zero(t, none)
	require.False(t, e.Exists())
}

// TestTypeErrors shows that a value of another type is told apart, and not half read.
func TestTypeErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := made(t, member(t, openDB(t, store.Options{}), "a"), "notes", store.Config{})
	notes := store.Typed[note](v)
	for _, value := range []string{
		``, `7`, `{"text": 7}`, `{"text": "x", "text": "y"}`, `{"text": "x", "unknown": 1}`, `{"text": "x"} more`,
	} {
		_, err := v.Set(ctx, "k", []byte(value))
		require.NoError(t, err)
		got, e, err := notes.Get(ctx, "k")
		wrong, ok := errors.AsType[*plugbus.TypeError](err)
		require.True(t, ok, "%q: %v", value, err)
		require.Equal(t, "store_test.note", wrong.Want)
		require.Contains(t, wrong.What, `key "k" of store "notes"`)
		require.Zero(t, got, value)
		require.Equal(t, value, e.Text(), "who reads it may look what it is")
		n := 0
		for typed, err := range notes.All(ctx, store.All()) {
			require.Error(t, err)
			require.Equal(t, "k", typed.Key())
			n++
		}
		require.Equal(t, 1, n)
		_, err = notes.Modify(ctx, "k", func(note) (note, error) { return note{}, nil })
		require.ErrorAs(t, err, &wrong)
	}
	for _, err := range []error{
		second(store.Typed[float64](v).Set(ctx, "k", math.NaN())),
		second(store.Typed[func()](v).Create(ctx, "k", nil)),
		second(store.Typed[chan int](v).Update(ctx, "k", nil, 1)),
		second(notes.Modify(ctx, "k", nil)),
	} {
		require.ErrorIs(t, err, plugbus.ErrInvalid)
	}
}

func second(_ any, err error) error { return err }

// TestModify counts from all sides, and loses nothing (D15).
func TestModify(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := made(t, member(t, openDB(t, store.Options{}), "a"), "notes", store.Config{})
	counts := store.Typed[int](v)
	fails := make([]error, 8)
	var all sync.WaitGroup
	for i := range fails {
		all.Go(func() {
			for range 50 {
				_, err := counts.Modify(ctx, "n", func(old int) (int, error) { return old + 1, nil })
				fails[i] = errors.Join(fails[i], err)
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(fails...))
	n, e, err := counts.Get(ctx, "n")
	require.NoError(t, err)
	require.Equal(t, 400, n)
	require.EqualValues(t, 400, e.Revision())
	own := errors.New("own")
	_, err = counts.Modify(ctx, "n", func(int) (int, error) { return 0, own })
	require.Same(t, own, err)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = counts.Modify(ended, "n", func(old int) (int, error) { return old, nil })
	require.ErrorIs(t, err, context.Canceled)
}

// A gobs codec is another one than JSON.
type gobs struct{}

func (gobs) Encode(value any) ([]byte, error) {
	var b strings.Builder
	err := gob.NewEncoder(&b).Encode(value)
	return []byte(b.String()), err
}

func (gobs) Decode(data []byte, into any) error {
	return gob.NewDecoder(strings.NewReader(string(data))).Decode(into)
}

func TestTypedBy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := made(t, member(t, openDB(t, store.Options{}), "a"), "notes", store.Config{})
	for _, codec := range []store.Codec{gobs{}, nil} {
		notes := store.TypedBy[note](v, codec)
		want := note{Text: "x", Words: 7}
		e, err := notes.Set(ctx, "k", want)
		require.NoError(t, err)
		got, err := notes.Decode(e)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, codec == nil, e.Text() == `{"text":"x","words":7}`)
	}
}
