package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/schema"
)

// TestValidatePayload shows that no form of a payload gets past a schema (V19) that
// its receiver may read in another way: a shared value is looked at itself, and JSON in
// a []byte as JSON too.
func TestValidatePayload(t *testing.T) {
	for _, test := range []struct {
		schema  string
		payload any
		ok      bool
	}{
		{`{"type": "integer"}`, 7, true},
		{`{"type": "integer"}`, plugbus.Shared(7), true},
		{`{"type": "integer"}`, plugbus.Shared("seven"), false},
		{`{"type": "object"}`, plugbus.Shared(7), false},
		{`{"properties": {"n": {"maximum": 10}}}`, []byte(`{"n": 11}`), false},
		{`{"properties": {"n": {"maximum": 10}}}`, []byte(`{"n": 9}`), true},
		{`{"properties": {"n": {"maximum": 10}}}`, []byte(`{"n": 11, "n": 9}`), false},
		{`{"type": "string"}`, []byte(`{"n": 9}`), false},
		{`{"type": "string"}`, []byte("\x00\x01"), true},
		{`{"maxLength": 4}`, []byte("[1,2,3,4]"), false},
	} {
		s, err := schema.Compile([]byte(test.schema))
		require.NoError(t, err)
		require.Equal(t, test.ok, s.ValidatePayload(test.payload) == nil, "%s %v", test.schema, test.payload)
	}
}
