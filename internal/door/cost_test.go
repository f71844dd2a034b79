package door_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
)

// A lenient meter refuses nothing.
type lenient struct{ taken int }

func (m *lenient) Take(_ time.Time, n int) time.Duration {
	m.taken += n
	return 0
}

// A clerk checks acts as a mechanism does, with what it has at hand.
type clerk struct {
	clock  *clock.Clock
	permit *plugbus.Permit
}

func newClerk() *clerk {
	return &clerk{clock.New(), &plugbus.Permit{
		Acts: &lenient{}, Bytes: &lenient{}, Payload: plugbus.PayloadRules{Content: plugbus.CheckAll},
	}}
}

func (c *clerk) check(data any, headers map[string]string, text string) *plugbus.Refusal {
	act := &door.Act{Plugin: "crawler", Verb: plugbus.VerbEmit, Object: "files.added", Permit: c.permit, MaxDepth: 32}
	parcel := &door.Parcel{Data: data, Headers: headers, Texts: [2]string{text}}
	_, refusal := door.Check(c.clock, act, parcel)
	return refusal
}

// TestCheckAllocatesNothing checks what holds no references, under meters and
// content checks: neither the act nor the parcel leaves the stack.
func TestCheckAllocatesNothing(t *testing.T) {
	c := newClerk()
	for _, data := range []any{nil, 7, "README.md", file{"README.md"}, struct{ N, X, Y int64 }{}} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if refusal := c.check(data, nil, ""); refusal != nil {
				t.Error(refusal)
			}
		}), "%T", data)
	}
}

// BenchmarkCheck measures the door alone: what a plain payload costs, and what
// each part adds.
func BenchmarkCheck(b *testing.B) {
	for _, test := range []struct {
		what    string
		data    any
		headers map[string]string
		text    string
	}{
		{"plain", struct{ N, X, Y int64 }{}, nil, ""},
		{"string", "README.md", nil, ""},
		{"pointer", &file{"README.md"}, nil, ""},
		{"text", struct{ N, X, Y int64 }{}, nil, "job-7"},
		{"header", struct{ N, X, Y int64 }{}, map[string]string{"k": "v"}, ""},
	} {
		b.Run("data="+test.what, func(b *testing.B) {
			c := newClerk()
			b.ReportAllocs()
			for b.Loop() {
				if refusal := c.check(test.data, test.headers, test.text); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}
