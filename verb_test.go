package plugbus_test

import (
	"encoding"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
)

func TestVerbText(t *testing.T) {
	t.Parallel()
	spelled := map[plugbus.Verb]string{
		plugbus.VerbSend:      "send",
		plugbus.VerbReceive:   "receive",
		plugbus.VerbEmit:      "emit",
		plugbus.VerbBroadcast: "broadcast",
		plugbus.VerbSubscribe: "subscribe",
		plugbus.VerbPublish:   "publish",
		plugbus.VerbConsume:   "consume",
		plugbus.VerbRead:      "read",
		plugbus.VerbWrite:     "write",
		plugbus.VerbCreate:    "create",
		plugbus.VerbProvide:   "provide",
		plugbus.VerbDiscover:  "discover",
	}
	require.Len(t, plugbus.Verbs(), len(spelled))
	require.IsIncreasing(t, plugbus.Verbs())
	for _, v := range plugbus.Verbs() {
		requireText(t, v, spelled[v])

		parsed, err := plugbus.ParseVerb(spelled[v])
		require.NoError(t, err)
		require.Equal(t, v, parsed)
	}
}

func TestTrustText(t *testing.T) {
	t.Parallel()
	for level, spelled := range []string{"untrusted", "basic", "trusted", "verified"} {
		requireText(t, plugbus.Trust(level), spelled)

		parsed, err := plugbus.ParseTrust(spelled)
		require.NoError(t, err)
		require.Equal(t, plugbus.Trust(level), parsed, "levels are ordered, lowest first")
	}
	var zero plugbus.Trust
	require.Equal(t, plugbus.Untrusted, zero, "a level that nobody set is the lowest")
}

func TestPriorityText(t *testing.T) {
	t.Parallel()
	for i, spelled := range []string{"low", "normal", "high"} {
		p := plugbus.PriorityLow + plugbus.Priority(i)
		requireText(t, p, spelled)
		require.True(t, p.Valid())
	}
	var zero plugbus.Priority
	require.Equal(t, plugbus.PriorityNormal, zero, "what nobody set is normal")
	require.False(t, (plugbus.PriorityLow - 1).Valid())
	require.False(t, (plugbus.PriorityHigh + 1).Valid())
}

func TestOutcomeText(t *testing.T) {
	t.Parallel()
	for i, spelled := range []string{
		"refused", "full",
		"handled", "failed", "expired", "dropped", "cancelled", "abandoned", "undeliverable",
	} {
		requireText(t, plugbus.Outcome(i+1), spelled)
	}
}

// TestUnknownText shows that a value without a name, and a name without a
// value, is an error that lists what would do, and never a default (R20).
func TestUnknownText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value encoding.TextMarshaler
		shown string
		err   string
	}{
		{plugbus.Verb(0), "Verb(0)", `plugbus: no verb has the number 0`},
		{plugbus.Verb(13), "Verb(13)", `plugbus: no verb has the number 13`},
		{plugbus.Verb(255), "Verb(255)", `plugbus: no verb has the number 255`},
		{plugbus.Trust(4), "Trust(4)", `plugbus: no trust level has the number 4`},
		{plugbus.Priority(2), "Priority(2)", `plugbus: no priority has the number 2`},
		{plugbus.Priority(-2), "Priority(-2)", `plugbus: no priority has the number -2`},
		{plugbus.Outcome(0), "Outcome(0)", `plugbus: no outcome has the number 0`},
		{plugbus.Outcome(10), "Outcome(10)", `plugbus: no outcome has the number 10`},
	} {
		_, err := test.value.MarshalText()
		require.EqualError(t, err, test.err)
		require.Equal(t, test.shown, test.value.(interface{ String() string }).String())
	}

	for _, text := range []string{"", "Emit", " emit", "emit ", "emits", "1", "Verb(1)"} {
		_, err := plugbus.ParseVerb(text)
		require.ErrorContains(t, err, `expected one of ["send" "receive"`, "%q", text)

		var o plugbus.Outcome
		require.Error(t, o.UnmarshalText([]byte(text)), "%q", text)

		p := plugbus.PriorityHigh
		require.Error(t, p.UnmarshalText([]byte(text)), "%q", text)
		require.Equal(t, plugbus.PriorityHigh, p)

		level := plugbus.Verified
		require.Error(t, level.UnmarshalText([]byte(text)), "%q", text)
		require.Equal(t, plugbus.Verified, level, "a refused text changes nothing")
	}
	_, err := plugbus.ParseTrust("high")
	require.EqualError(t, err,
		`plugbus: unknown trust level "high"; expected one of ["untrusted" "basic" "trusted" "verified"]`)
}

// requireText asserts that v is spelled so wherever text is made of it, and
// that JSON gives v back.
func requireText[T interface {
	comparable
	encoding.TextMarshaler
	String() string
}](t *testing.T, v T, spelled string,
) {
	t.Helper()
	require.Equal(t, spelled, v.String())

	encoded, err := json.Marshal(map[T]T{v: v})
	require.NoError(t, err)
	require.JSONEq(t, `{"`+spelled+`":"`+spelled+`"}`, string(encoded))

	var decoded map[T]T
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	require.Equal(t, map[T]T{v: v}, decoded)
}
