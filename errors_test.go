package plugbus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/chain"
)

func TestDeniedErrorText(t *testing.T) {
	t.Parallel()
	denied := plugbus.DeniedError{
		Plugin: "indexer", Verb: plugbus.VerbEmit, Object: "index.private.keys",
		Reason: plugbus.ReasonDeniedByRule,
	}
	require.EqualError(t, &denied,
		`plugin "indexer" may not emit "index.private.keys": denied_by_rule`)

	denied.Record = 17
	require.EqualError(t, &denied,
		`plugin "indexer" may not emit "index.private.keys": denied_by_rule (audit record 17)`)

	denied.Reason = plugbus.ReasonRateLimitExceeded
	denied.RetryAfter = 1_234_567_890 * time.Nanosecond
	require.EqualError(t, &denied, `plugin "indexer" may not emit "index.private.keys": `+
		`rate_limit_exceeded; try again in 1.235s (audit record 17)`)

	denied.Cause = errors.New("boom")
	denied.Hint = "emit less often"
	denied.Explanation = `rule rates.events of "indexer"`
	require.EqualError(t, &denied, `plugin "indexer" may not emit "index.private.keys": `+
		`rate_limit_exceeded: boom; try again in 1.235s; emit less often; rule rates.events of "indexer" (audit record 17)`)

	// What a plugin named stays on one line, so it forges no line of a log (A10).
	hostile := &plugbus.DeniedError{Plugin: "p", Verb: plugbus.VerbSend, Object: "a\nplugin \"host\" may send"}
	require.NotContains(t, hostile.Error(), "\n")
}

// TestDeniedErrorMatching shows that a refusal is found through wrapping, and
// that it matches ErrInvalid only where no policy could help.
func TestDeniedErrorMatching(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reason  plugbus.Reason
		invalid bool
	}{
		{plugbus.ReasonInvalidName, true},
		{plugbus.ReasonInvalidPayload, true},

		{plugbus.ReasonInsufficientPermissions, false},
		{plugbus.ReasonInvalidContent, false}, // the checks can be switched off
		{plugbus.ReasonTooLarge, false},       // the limit can be raised
		{plugbus.ReasonRateLimitExceeded, false},
		{"", false},
	} {
		denied := &plugbus.DeniedError{Reason: test.reason}
		wrapped := fmt.Errorf("start: %w", denied)

		require.ErrorIs(t, wrapped, plugbus.ErrDenied, "%q", test.reason)
		require.NotErrorIs(t, wrapped, plugbus.ErrClosed, "%q", test.reason)
		require.Equal(t, test.invalid, errors.Is(wrapped, plugbus.ErrInvalid), "%q", test.reason)

		found, ok := errors.AsType[*plugbus.DeniedError](wrapped)
		require.True(t, ok)
		require.Same(t, denied, found)
	}

	cause := errors.New("payload.Next: a cycle")
	require.ErrorIs(t, &plugbus.DeniedError{Cause: cause}, cause)
}

// TestRemoteErrorMatchesNothing shows that a plugin cannot make the hub's own
// errors appear in another plugin, whatever it writes.
func TestRemoteErrorMatchesNothing(t *testing.T) {
	t.Parallel()
	remote := &plugbus.RemoteError{
		Plugin: "dictionary", Code: plugbus.CodeDenied, Message: plugbus.ErrDenied.Error(),
	}
	require.EqualError(t, remote, `plugin "dictionary": denied: denied`)
	for _, own := range []error{plugbus.ErrDenied, plugbus.ErrClosed, plugbus.ErrInvalid} {
		require.NotErrorIs(t, remote, own)
	}
}

func TestTypeErrorNamesBothTypes(t *testing.T) {
	t.Parallel()
	mismatch := &plugbus.TypeError{What: `event "files.changed"`, Got: "string", Want: "files.Change"}
	require.EqualError(t, mismatch,
		`event "files.changed" carries a string, but a files.Change was asked for`)

	mismatch.Err = errors.New("unknown field")
	require.EqualError(t, mismatch,
		`event "files.changed" carries a string, but a files.Change was asked for: unknown field`)
	require.ErrorIs(t, mismatch, mismatch.Err)
}

func TestCutText(t *testing.T) {
	t.Parallel()
	const limit = plugbus.MaxTextBytes
	fill := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"short", "short"},
		{"bad \xff\xfe byte", "bad \uFFFD byte"},
		{fill(limit), fill(limit)},
		{fill(limit-2) + "é", fill(limit-2) + "é"}, // it just fits

		// The mark takes three bytes, and no rune is cut in two.
		{fill(limit + 1), fill(limit-3) + "…"},
		{fill(limit-3) + "éé", fill(limit-3) + "…"},
		{fill(limit-4) + "ééé", fill(limit-4) + "…"},
		{fill(limit-5) + "€€€", fill(limit-5) + "…"},
		{fill(limit-6) + "😀😀😀", fill(limit-6) + "…"},
		{fill(limit-7) + "😀😀😀", fill(limit-7) + "😀…"},

		// Each run of invalid bytes becomes one mark of three bytes.
		{strings.Repeat("\xffx", limit/2), strings.Repeat("\uFFFDx", limit/4-1) + "…"},

		// What comes after the limit is not looked at, whatever is left of what comes before it (S13).
		{strings.Repeat("\xff", limit+1), "\uFFFD…"},
	} {
		require.Equal(t, test.want, plugbus.CutText(test.text))
	}
}

func FuzzCutText(f *testing.F) {
	f.Add("", 0)
	f.Add("€", 400)
	f.Add("x😀", 300)
	f.Add("\xe2\x82", 600)
	f.Fuzz(func(t *testing.T, unit string, times int) {
		text := unit + strings.Repeat(unit, min(max(times, 0), 4096)/max(len(unit), 1))
		cut := plugbus.CutText(text)

		require.LessOrEqual(t, len(cut), plugbus.MaxTextBytes)
		require.True(t, utf8.ValidString(cut))
		require.Equal(t, cut, plugbus.CutText(cut), "cutting again changes nothing")

		valid := strings.ToValidUTF8(text, "\uFFFD")
		if cut == valid {
			return
		}
		kept, marked := strings.CutSuffix(cut, "…")
		require.True(t, marked, "text that was cut says so")
		require.True(t, strings.HasPrefix(valid, kept))
		if utf8.ValidString(text) {
			require.Greater(t, len(cut), plugbus.MaxTextBytes-utf8.UTFMax, "no more than a rune is lost")
		}
	})
}

// TestDeniedErrorCarriesChain shows that the one who is refused can read who
// led to the act.
func TestDeniedErrorCarriesChain(t *testing.T) {
	t.Parallel()
	denied := &plugbus.DeniedError{Chain: chain.Chain{}.Then("crawler").Then("indexer")}
	require.Equal(t, []string{"crawler", "indexer"}, denied.Chain.Plugins())
}

// TestRemoteErrorOfNobody shows that an error names no plugin of which its reader may not
// know.
func TestRemoteErrorOfNobody(t *testing.T) {
	t.Parallel()
	remote := &plugbus.RemoteError{Code: plugbus.CodeInvalid, Message: "no"}
	require.Equal(t, "another plugin: invalid: no", remote.Error())
}
