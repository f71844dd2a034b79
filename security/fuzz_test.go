package security_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// FuzzParse shows that what Parse accepts can be written and read again, and
// then decides the same; that what it refuses is refused with places; and that
// the schema accepts what it accepts.
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
			for _, e := range mistakes(t, err) {
				require.True(t, e.Line > 0 && e.Column > 0 || len(mistakes(t, err)) > 100, "%v", e)
				require.NotEmpty(t, e.Problem)
			}
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
		for _, id := range append(p.Plugins(), "ghost") {
			want, ok := p.Grant(id)
			got, okAgain := again.Grant(id)
			require.Equal(t, ok, okAgain)
			require.Equal(t, want, got)
			for _, verb := range plugbus.Verbs() {
				for _, object := range []string{"a", "b", "a.b", "indexer", "plugin:x", "index.a"} {
					require.Equal(t, p.Explain(id, verb, object).Reason, again.Explain(id, verb, object).Reason, "%s %s %s", id, verb, object)
				}
			}
		}
	})
}
