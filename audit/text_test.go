package audit_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/topic"
	"github.com/stretchr/testify/require"
)

// TestA10Escaping proves that text of plugins cannot forge what a reader sees.
func TestA10Escaping(t *testing.T) {
	for _, test := range []struct{ give, want string }{
		{"", ""},
		{"billing.paid", "billing.paid"},
		{"größe € 世界 🙂", "größe € 世界 🙂"},
		{`C:\new "folder"`, `C:\new "folder"`}, // backslashes and quotes stay
		{"a\nlevel=INFO msg=forged", `a\nlevel=INFO msg=forged`},
		{"a\r\x00\x1b[2J\x7f", `a\r\x00\x1b[2J\x7f`},
		{"pay\u202elatot", `pay\u202elatot`},                                    // turns the direction of writing
		{"a\u200bb\ufeffc\U000e0041", `a\u200bb\ufeffc\U000e0041`},              // invisible
		{"a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`},                    // lines, to some readers
		{"a\u00a0b\u3000c", `a\u00a0b\u3000c`},                                  // spaces that are not the space
		{"a\xffb\xe2\x82", `a\xffb\xe2\x82`},                                    // not UTF-8
		{strings.Repeat("x", 1024), strings.Repeat("x", 1024)},                  // just fits
		{strings.Repeat("x", 1025), strings.Repeat("x", 1021) + "…"},            // does not
		{strings.Repeat("€", 1000), strings.Repeat("€", 340) + "…"},             // never half a character
		{strings.Repeat("x", 1020) + "\n\n\n", strings.Repeat("x", 1020) + "…"}, // nor half an escape
	} {
		l := newLog(t, audit.Options{})
		got, _ := l.Get(record(t, l, audit.Entry{
			Event: "x", Actor: test.give, Target: test.give, Reason: plugbus.Reason(test.give),
			Details: []audit.Detail{{test.give, test.give}},
		}))
		require.Equal(t, test.want, got.Actor, "actor for %q", test.give)
		require.Equal(t, test.want, got.Target, "target for %q", test.give)
		require.Equal(t, test.want, string(got.Reason), "reason for %q", test.give)
		require.Equal(t, test.want, got.Details[0].Key, "key for %q", test.give)
		require.Equal(t, test.want, got.Details[0].Value, "value for %q", test.give)
		require.Len(t, search(t, l, audit.Query{Either: test.give}).Entries, 1, "found by what was recorded: %q", test.give)
	}
}

// TestEventNames proves that every event is a name in the end, so that patterns
// find it.
func TestEventNames(t *testing.T) {
	for _, test := range []struct{ give, want string }{
		{"emit.refused", "emit.refused"},
		{"hub:closed", "hub:closed"},
		{"", "unnamed"},
		{"..", "unnamed"},
		{".emit..refused.", "emit.refused"},
		{"emit refused", "emit_refused"},
		{"emit.*", "emit._"},
		{"emit\n.x", `emit\n.x`},
		{strings.Repeat("x", 300), strings.Repeat("x", 255)},
		{strings.Repeat("x.", 40), strings.TrimSuffix(strings.Repeat("x.", 32), ".")},
	} {
		l := newLog(t, audit.Options{})
		got, _ := l.Get(record(t, l, audit.Entry{Event: test.give}))
		require.Equal(t, test.want, got.Event, "event for %q", test.give)
	}
}

func FuzzEscaping(f *testing.F) {
	f.Add("plain")
	f.Add("a\nb\u202ec\xff…")
	f.Add(strings.Repeat("\u2028", 200))
	f.Fuzz(func(t *testing.T, s string) {
		l := newLog(t, audit.Options{CoalesceWithin: apart})
		once, _ := l.Get(record(t, l, audit.Entry{Event: s, Target: s}))
		if len(once.Target) > plugbus.MaxTextBytes || !utf8.ValidString(once.Target) {
			t.Errorf("Record(%q) keeps %q: %d bytes", s, once.Target, len(once.Target))
		}
		for _, r := range once.Target + once.Event {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) && r != ' ' {
				t.Errorf("Record(%q) keeps %U", s, r)
			}
		}
		if err := topic.CheckName(once.Event); err != nil {
			t.Errorf("Record(%q) keeps an event that is no name: %v", s, err)
		}
		twice, _ := l.Get(record(t, l, once))
		if twice.Target != once.Target || twice.Event != once.Event {
			t.Errorf("Record(%q) keeps %q and %q, but records these as %q and %q", s, once.Target, once.Event, twice.Target, twice.Event)
		}
	})
}
