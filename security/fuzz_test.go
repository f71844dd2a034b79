package security_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// FuzzParse shows that what Parse accepts can be written and read again, and
// then decides the same, about every verb, as the document says; that what it
// refuses is refused with places in the text; and that the schema accepts what it
// accepts.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	for _, text := range []string{
		``, `{}`, `{"version":1}`, `{"version":1,"plugins":{"a":{"emit":{"allow":["\u0061.*"],"deny":[]}}}}`,
		plugin(`"send":{"deny":["b"]},"canSendMessages":true`), plugin(`"dataAccess":{"a.*":{"read":true,"requiresTrust":true}}`),
		plugin(`"emit":{"allow":["a",["b"],{"c":1}]},"x":[{"y":"\""}]`), plugin(`"trust":"basic","trust":"\ud800"`),
	} {
		f.Add([]byte(text))
	}
	schema := newChecker(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		schema := schema
		schema.t = t
		p, err := security.Parse(data, "p.json")
		if err != nil {
			requirePlaces(t, data, err)
			return
		}
		require.True(t, schema.acceptsText(data), "the schema refuses what is accepted")

		text, err := json.Marshal(security.DocumentOf(p))
		require.NoError(t, err)
		again, err := security.Parse(text, "")
		require.NoError(t, err, "%s", text)
		require.Equal(t, p.Digest(), again.Digest())
		built, err := security.DocumentOf(p).Policy()
		require.NoError(t, err)
		require.Equal(t, p.Digest(), built.Digest())
		require.Equal(t, p.Plugins(), again.Plugins())
		canonical, err := json.Marshal(security.DocumentOf(again))
		require.NoError(t, err)
		require.Equal(t, string(text), string(canonical))
		for _, id := range append(p.Plugins()[:min(len(p.Plugins()), 4)], "ghost") {
			want, ok := p.Grant(id)
			got, okAgain := again.Grant(id)
			require.Equal(t, ok, okAgain)
			require.Equal(t, want, got)
			for _, verb := range plugbus.Verbs() {
				for _, object := range []string{"a", "b", "a.b", "indexer", "plugin:x", "index.a", "host", "a b", ""} {
					why := naiveDecide(security.DocumentOf(p), id, verb, object)
					for _, p := range []*security.Policy{p, again} {
						e := p.Explain(id, verb, object)
						require.Equal(t, why, e.Reason, "%s %s %q", id, verb, object)
						require.Equal(t, why == "", e.Allowed)
					}
				}
			}
		}
	})
}

// requirePlaces demands that each mistake has a place in the text, and says what is
// wrong there; but for a last one, which may only count the rest.
func requirePlaces(t *testing.T, data []byte, err error) {
	t.Helper()
	all := mistakes(t, err)
	lines := strings.SplitAfter(string(data), "\n")
	for i, e := range all {
		require.NotEmpty(t, e.Problem)
		require.LessOrEqual(t, len(e.Error()), 3*plugbus.MaxTextBytes)
		if i == 100 {
			require.Zero(t, e.Line)
			continue
		}
		require.True(t, 1 <= e.Line && e.Line <= len(lines), "%v", e)
		require.True(t, 1 <= e.Column && e.Column <= max(1, len(lines[e.Line-1])), "%v in a line of %d bytes", e, len(lines[e.Line-1]))
	}
	require.LessOrEqual(t, len(all), 101)
	require.True(t, slices.IsSortedFunc(all[:min(len(all), 100)], func(a, b *security.PolicyError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	}), "%v", err)
}

// FuzzKeys puts a member into a policy once more, spelled in another way or in another
// case, where the case decides nothing: it is refused, at that place. encoding/json
// would take the last of the two.
func FuzzKeys(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data, uint16(7), uint8(1))
	}
	for how := range uint8(4) {
		f.Add([]byte(plugin(`"emit":{"allow":["a"]},"rates":{"bytes":{"limit":1}}`)), uint16(how), how)
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint16, how uint8) {
		if _, err := security.Parse(data, ""); err != nil {
			return
		}
		all := members(data)
		if len(all) == 0 {
			return
		}
		m := all[int(which)%len(all)]
		key, err := json.Marshal(m.key)
		require.NoError(t, err)
		inner := string(key[1 : len(key)-1])
		switch how % 4 {
		case 0:
		case 1:
			inner = fmt.Sprintf("\\u%04x", []rune(m.key + "x")[0]) + strings.TrimPrefix(inner, string([]rune(m.key + "x")[0]))
			if m.key == "" || m.key[0] < ' ' || m.key[0] >= 0x7F || strings.Contains(string(key), "\\") {
				return
			}
		case 2:
			if inner = strings.ToUpper(inner); !m.field || inner == m.key {
				return
			}
		case 3:
			if inner = strings.Replace(inner, "s", "\u017f", 1); !m.field || inner == m.key {
				return
			}
		}
		at := m.end // Behind the member.
		text := slices.Concat(data[:at], []byte(`,"`+inner+`":`), data[m.value:m.end], data[at:])
		p, err := security.Parse(text, "")
		require.Error(t, err, "%s", text)
		require.Nil(t, p)
		requirePlaces(t, text, err)
		require.True(t, slices.ContainsFunc(mistakes(t, err), func(e *security.PolicyError) bool {
			offset := e.Column - 1
			for _, line := range strings.SplitAfter(string(text), "\n")[:e.Line-1] {
				offset += len(line)
			}
			return offset == at+1
		}), "no mistake at byte %d of %s: %v", at+1, text, err)
	})
}

// A member is one of a JSON object.
type member struct {
	key        string
	field      bool // the key is a word of the format, not an id or a pattern
	value, end int  // where its value begins and ends
}

// members returns all members of a text that is JSON.
func members(data []byte) (all []member) {
	d := json.NewDecoder(bytes.NewReader(data))
	var visit func(path []string)
	visit = func(path []string) {
		token, _ := d.Token()
		switch token {
		case json.Delim('{'):
			for d.More() {
				key, _ := d.Token()
				m := member{key: fmt.Sprint(key), value: int(d.InputOffset()), field: true}
				m.value += bytes.IndexByte(data[m.value:], ':') + 1
				switch strings.Join(path, "\n") {
				case "plugins", "levels":
					m.field = false
				default:
					m.field = len(path) != 3 || path[2] != "dataAccess"
				}
				visit(append(path, m.key))
				m.end = int(d.InputOffset())
				all = append(all, m)
			}
			_, _ = d.Token()
		case json.Delim('['):
			for d.More() {
				visit(path)
			}
			_, _ = d.Token()
		}
	}
	visit(nil)
	return all
}
