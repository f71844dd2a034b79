package events_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
)

type hFile struct {
	Path string
	Size int
	Tags []string `json:",omitempty"`
}

// hDelivered returns an event that carries data, as a subscriber gets it.
func hDelivered(t *testing.T, data any) events.Event {
	t.Helper()
	bus := hBus(t, events.Options{})
	_, err := hClient(t, bus, "emitter").Emit(t.Context(), "files.added", data)
	require.NoError(t, err)
	got := hReplayedEvents(t, hClient(t, bus, "reader"), "**", events.All())
	require.Len(t, got, 1)
	return got[0]
}

// TestDecode shows what passes a typed edge: the same type as it is, and JSON of
// it, read strictly.
func TestDecode(t *testing.T) {
	file := hFile{"README.md", 7, []string{"doc"}}
	const text = ` {"Path":"README.md","Size":7,"Tags":["doc"]} `
	for _, data := range []any{file, json.RawMessage(text), []byte(text)} {
		got, err := events.Decode[hFile](hDelivered(t, data))
		require.NoError(t, err)
		require.Equal(t, file, got)
	}
	pointer, err := events.Decode[*hFile](hDelivered(t, &file))
	require.NoError(t, err)
	require.Equal(t, &file, pointer)
	require.NotSame(t, &file, pointer)
	pointer, err = events.Decode[*hFile](hDelivered(t, []byte(text)))
	require.NoError(t, err)
	require.Equal(t, &file, pointer)
	raw, err := events.Decode[[]byte](hDelivered(t, []byte("no JSON")))
	require.NoError(t, err, "the same type is not read as JSON")
	require.Equal(t, "no JSON", string(raw))
	whatever, err := events.Decode[any](hDelivered(t, 7))
	require.NoError(t, err)
	require.Equal(t, 7, whatever)
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct {
		data any
		got  string
		why  string // "" if it is no JSON that could convert
	}{
		{nil, "<nil>", ""},
		{7, "int", ""},
		{`{"Path":"a"}`, "string", ""},
		{&hFile{}, "*events_test.hFile", ""},
		{[]hFile{}, "[]events_test.hFile", ""},
		{map[string]any{"Path": "a"}, "map[string]interface {}", ""},
		{struct{ Path string }{}, "struct { Path string }", ""},
		{[]byte(""), "[]uint8", "EOF"},
		{[]byte("{"), "[]uint8", "unexpected EOF"},
		{[]byte("[]"), "[]uint8", "cannot unmarshal array"},
		{[]byte(`{"Path":7}`), "[]uint8", "cannot unmarshal number"},
		{[]byte(`{"Size":1e400}`), "[]uint8", "cannot unmarshal number"},
		{[]byte(`{"Size":0.5}`), "[]uint8", "cannot unmarshal number"},
		{[]byte(`{"Path":"a","Owner":"b"}`), "[]uint8", `unknown field "Owner"`},
		{[]byte(`{"Path":"a"}{"Path":"b"}`), "[]uint8", "more after"},
		{[]byte(`{"Path":"a"},`), "[]uint8", "more after"},
		{[]byte(`{"Path":"a"}}`), "[]uint8", "more after"},
		{[]byte(`{"Path":"a"}]`), "[]uint8", "more after"},
		{[]byte(`{"Path":"a"} x`), "[]uint8", "more after"},
		{[]byte(`{"Path":"a"}` + "\x00"), "[]uint8", "more after"},
		{json.RawMessage(`{"Path":"a"} 7`), "json.RawMessage", "more after"},
		{[]byte(`{"Tags":` + strings.Repeat("[", 20000)), "[]uint8", "nested more than"},
	} {
		_, err := events.Decode[hFile](hDelivered(t, test.data))
		var mismatch *plugbus.TypeError
		require.ErrorAs(t, err, &mismatch, "%v", test)
		require.Equal(t, `event "files.added"`, mismatch.What)
		require.Equal(t, test.got, mismatch.Got)
		require.Equal(t, "events_test.hFile", mismatch.Want)
		require.ErrorContains(t, err, "carries a "+test.got+", but a events_test.hFile was asked for")
		if test.why == "" {
			require.NoError(t, mismatch.Err)
		} else {
			require.ErrorContains(t, mismatch.Err, test.why, "%s", test.data)
		}
	}
}

// TestSubscribeTyped shows a typed subscription: the handler gets values of its
// own, and what is of another type fails, with both types in the error.
func TestSubscribeTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures []events.Failure
		bus := hBus(t, events.Options{OnFailure: func(f events.Failure) { failures = append(failures, f) }})
		emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
		var got []hFile
		s, err := events.Subscribe(reader, "files.*", func(_ context.Context, file hFile, e events.Event) error {
			require.Equal(t, "emitter", e.Source())
			got = append(got, file)
			file.Tags[0] = "changed"
			kept, err := events.Decode[hFile](e)
			require.NoError(t, err)
			require.Equal(t, "doc", kept.Tags[0])
			return nil
		}, events.Priority(1))
		require.NoError(t, err)
		require.Contains(t, s.Stats().Site, "typed_test.go:")
		file := hFile{"a", math.MaxInt, []string{"doc"}}
		for _, data := range []any{file, 7, []byte(`{"Path":"b","Tags":["doc"]}`)} {
			_, err := emitter.Emit(t.Context(), "files.added", data)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, []string{got[0].Path, got[1].Path})
		require.Equal(t, "doc", file.Tags[0])
		require.Len(t, failures, 1)
		var mismatch *plugbus.TypeError
		require.ErrorAs(t, failures[0].Err, &mismatch)
		require.Equal(t, "int", mismatch.Got)
		require.EqualValues(t, 2, bus.Ledger().Handled)
		require.EqualValues(t, 1, bus.Ledger().Failed)

		_, err = events.Subscribe[hFile](reader, "files.*", nil)
		require.ErrorIs(t, err, events.ErrNilHandler)
		require.ErrorContains(t, err, `"files.*"`)
		_, err = events.Subscribe(reader, "a..b", func(context.Context, hFile, events.Event) error { return nil })
		hRequireDenied(t, err, plugbus.ReasonInvalidName)
	})
}
