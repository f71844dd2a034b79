package typed_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/typed"
)

type file struct {
	Path string
	Size int
	Tags []string `json:",omitempty"`
}

// String is here so that a file implements an interface.
func (f file) String() string { return f.Path }

// TestSame shows that a value of the type passes as it is, JSON or not.
func TestSame(t *testing.T) {
	t.Parallel()
	f := &file{Path: "README.md", Tags: []string{"doc"}}
	same(t, *f)
	same(t, f)
	same(t, 7)
	same(t, []byte("no JSON"))
	same(t, json.RawMessage("no JSON"))
	same[any](t, 7)
	same[any](t, []byte("{}"))
	same[fmt.Stringer](t, f)

	got, err := typed.As[*file]("x", f)
	require.NoError(t, err)
	require.Same(t, f, got)
}

func same[T any](t *testing.T, want T) {
	t.Helper()
	got, err := typed.As[T]("x", want)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// TestJSON shows that JSON of the type is decoded, from either type that holds
// it.
func TestJSON(t *testing.T) {
	t.Parallel()
	const text = ` {"Path":"README.md","Size":7,"Tags":["doc"]} `
	want := file{"README.md", 7, []string{"doc"}}
	decodes(t, text, want)
	decodes(t, text, &want)
	decodes(t, text, map[string]any{"Path": "README.md", "Size": 7.0, "Tags": []any{"doc"}})
	decodes(t, `null`, (*file)(nil))
	decodes(t, `7`, 7)
	decodes(t, `"7"`, "7")
	decodes(t, `[7]`, []int{7})
}

func decodes[T any](t *testing.T, text string, want T) {
	t.Helper()
	for _, data := range []any{json.RawMessage(text), []byte(text)} {
		got, err := typed.As[T]("x", data)
		require.NoError(t, err, "%T: %s", data, text)
		require.Equal(t, want, got)
	}
}

// A mine is a slice of bytes, but none of the types whose content is JSON.
type mine []byte

func TestMismatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		data any
		got  string
		why  string // "" if it is no JSON that could convert
	}{
		{nil, "<nil>", ""},
		{7, "int", ""},
		{`{"Path":"a"}`, "string", ""},
		{mine(`{"Path":"a"}`), "typed_test.mine", ""},
		{&file{}, "*typed_test.file", ""},
		{(*file)(nil), "*typed_test.file", ""},
		{[]file{}, "[]typed_test.file", ""},
		{map[string]any{"Path": "a"}, "map[string]interface {}", ""},
		{struct{ Path string }{}, "struct { Path string }", ""},
		{[]byte(nil), "[]uint8", "EOF"},
		{[]byte("{"), "[]uint8", "unexpected EOF"},
		{[]byte("[]"), "[]uint8", "cannot unmarshal array"},
		{[]byte(`{"Path":"a","Size":"7"}`), "[]uint8", "cannot unmarshal string"},
		{[]byte(`{"Size":1e400}`), "[]uint8", "cannot unmarshal number"},
		{[]byte(`{"Path":"a","Owner":"b"}`), "[]uint8", `unknown field "Owner"`},
		{[]byte(`{"Path":"a","path":"b"}`), "[]uint8", `the key "path" stands twice`},
		{[]byte(`{"Path":"a"}{"Path":"b"}`), "[]uint8", "more after"},
		{json.RawMessage(`{"Path":"a"} x`), "json.RawMessage", "more after"},
		{[]byte(`{"Tags":` + strings.Repeat("[", 20000)), "[]uint8", "nested more than"},
	} {
		got, err := typed.As[file](`event "files.added"`, test.data)
		require.Zero(t, got, "half of a value is worse than none: %v", test)
		mismatch, ok := errors.AsType[*plugbus.TypeError](err)
		require.True(t, ok, "%v: %v", test, err)
		require.Equal(t, `event "files.added"`, mismatch.What)
		require.Equal(t, test.got, mismatch.Got)
		require.Equal(t, "typed_test.file", mismatch.Want)
		require.ErrorContains(t, err, `event "files.added" carries a `+test.got+", but a typed_test.file was asked for")
		if test.why == "" {
			require.NoError(t, mismatch.Err)
		} else {
			require.ErrorContains(t, mismatch.Err, test.why, "%s", test.data)
		}
	}
	_, err := typed.As[fmt.Stringer]("x", 7)
	require.EqualError(t, err, "x carries a int, but a fmt.Stringer was asked for")
	_, err = typed.As[*file]("x", nil)
	require.EqualError(t, err, "x carries a <nil>, but a *typed_test.file was asked for", "a nil of no type is no nil pointer")
	none, err := typed.As[any]("x", nil)
	require.NoError(t, err)
	require.Nil(t, none)
	nobody, err := typed.As[fmt.Stringer]("x", nil)
	require.NoError(t, err)
	require.Nil(t, nobody)
}

// TestSameAllocatesNothing shows what a typed edge costs where no type differs.
func TestSameAllocatesNothing(t *testing.T) {
	var data any = file{Path: "a"}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := typed.As[file]("x", data); err != nil {
			t.Error(err)
		}
	}))
}
