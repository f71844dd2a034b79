package door_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/payload"
)

// A meter answers every Take alike, and remembers what it was asked for.
type meter struct {
	wait  time.Duration
	taken []int
	at    time.Time
}

func (m *meter) Take(now time.Time, n int) time.Duration {
	m.taken, m.at = append(m.taken, n), now
	return m.wait
}

const tooLong = 7 * time.Second

// A scene is an act that nothing is wrong with until a flaw is put into it.
type scene struct {
	act         door.Act
	parcel      door.Parcel
	permit      plugbus.Permit
	acts, bytes meter
}

func newScene() *scene {
	s := &scene{}
	s.permit = plugbus.Permit{Acts: &s.acts, Bytes: &s.bytes, Payload: plugbus.PayloadRules{Content: plugbus.CheckAll}}
	s.act = door.Act{
		Plugin: "crawler", Verb: plugbus.VerbEmit, Object: "files.added", Permit: &s.permit,
		Cause: chain.Chain{}.Then("watcher"), MaxDepth: 2,
	}
	s.parcel = door.Parcel{
		Data: &file{Path: "README.md"}, Headers: map[string]string{"k": "v"}, Texts: [2]string{"job-7", "client-7"},
	}
	return s
}

type file struct{ Path string }

const bad = "<script>alert(1)</script>"

// flaws are what the door looks for, in its order.
var flaws = []struct {
	reason plugbus.Reason
	put    func(*scene)
}{
	{plugbus.ReasonInvalidName, func(s *scene) {
		s.act.Object = "files..added"
		s.permit.Reason = plugbus.ReasonInsufficientPermissions // A guard never allows what is no name; see Sound.
	}},
	{plugbus.ReasonDeniedByRule, func(s *scene) { s.permit.Reason = plugbus.ReasonDeniedByRule }},
	{plugbus.ReasonChainTooDeep, func(s *scene) { s.act.Cause = s.act.Cause.Then("reader") }},
	{plugbus.ReasonRateLimitExceeded, func(s *scene) { s.acts.wait = tooLong }},
	{plugbus.ReasonInvalidPayload, func(s *scene) { s.parcel.Data = &[]float64{math.NaN()} }},
	{plugbus.ReasonInvalidContent, func(s *scene) { s.parcel.Headers[bad] = "" }},
	{plugbus.ReasonInvalidContent, func(s *scene) { s.parcel.Texts[0] = bad }},
	{plugbus.ReasonInvalidContent, func(s *scene) { s.parcel.Texts[1] = bad }},
	{plugbus.ReasonByteRateExceeded, func(s *scene) { s.bytes.wait = tooLong }},
}

const rate, firstOfPayload, bytesOver = 3, 4, 8

// TestOrder puts every set of flaws into one act: the first in the order of the
// checks gives the reason, and no check after it is made. So what is cheap comes
// first (S15), nothing of a payload is walked over the rate (S13), and what is
// refused for its payload takes no bytes.
func TestOrder(t *testing.T) {
	t.Parallel()
	for set := range 1 << len(flaws) {
		s := newScene()
		first := len(flaws)
		for i, flaw := range slices.Backward(flaws) {
			if set>>i&1 != 0 {
				flaw.put(s)
				first = i
			}
		}
		data := s.parcel.Data
		_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
		if first == len(flaws) {
			require.Nil(t, refusal)
		} else {
			require.NotNil(t, refusal, "flaws %b", set)
			require.Equal(t, flaws[first].reason, refusal.Reason, "flaws %b", set)
			require.Equal(t, s.act.Verb, refusal.Verb)
			require.Equal(t, s.act.Object, refusal.Object)
			require.Equal(t, s.act.Cause, refusal.Chain)
		}
		if first < rate {
			require.Empty(t, s.acts.taken, "flaws %b", set)
		} else {
			require.Equal(t, []int{1}, s.acts.taken, "flaws %b", set)
		}
		if first <= rate {
			require.Same(t, data, s.parcel.Data, "nobody has walked it: flaws %b", set)
		} else if first > firstOfPayload {
			require.NotSame(t, data, s.parcel.Data)
		}
		if first < bytesOver {
			require.Empty(t, s.bytes.taken, "flaws %b", set)
		} else {
			require.Len(t, s.bytes.taken, 1, "flaws %b", set)
		}
	}
}

// TestOneReadingOfTheClock shows that an act has one time, of which the caller
// hears.
func TestOneReadingOfTheClock(t *testing.T) {
	t.Parallel()
	s := newScene()
	c := clock.New()
	before := c.Now()
	now, refusal := door.Check(c, &s.act, &s.parcel)
	require.Nil(t, refusal)
	require.Equal(t, now, s.acts.at)
	require.Equal(t, now, s.bytes.at)
	require.False(t, now.Before(before) || now.After(c.Now()))
}

// TestDepth cuts a cascade at its limit (E8), and names the circle.
func TestDepth(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		led     string
		most    int
		refused bool
	}{
		{"", 1, false},
		{"a", 1, true},
		{"a", 2, false},
		{"a b", 2, true},
		{"a b", 3, false},
		{"a b c d", 3, true},
	} {
		s := newScene()
		s.act.Cause, s.act.MaxDepth = chainOf(test.led), test.most
		_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
		require.Equal(t, test.refused, refusal != nil, "%+v", test)
		if refusal != nil {
			require.Equal(t, plugbus.ReasonChainTooDeep, refusal.Reason)
			require.Equal(t, "plugins answer each other in a circle: "+
				strings.ReplaceAll(test.led, " ", " → ")+" → crawler", refusal.Hint)
		}
	}
}

func chainOf(plugins string) (c plugbus.Chain) {
	for plugin := range strings.FieldsSeq(plugins) {
		c = c.Then(plugin)
	}
	return c
}

// TestRetryAfter is L12: a refusal for a rate says when to come again, unless that
// will not do.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ wait, want time.Duration }{{1, 1}, {tooLong, tooLong}, {-1, 0}} {
		s := newScene()
		s.acts.wait = test.wait
		_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
		require.Equal(t, plugbus.ReasonRateLimitExceeded, refusal.Reason)
		require.Equal(t, test.want, refusal.RetryAfter)

		s = newScene()
		s.bytes.wait = test.wait
		_, refusal = door.Check(clock.New(), &s.act, &s.parcel)
		require.Equal(t, plugbus.ReasonByteRateExceeded, refusal.Reason)
		require.Equal(t, test.want, refusal.RetryAfter)
	}
}

// TestPayload shows the reason and the cause for each part of a parcel: all of
// them are inspected (S20), and by the rules of the permit.
func TestPayload(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parcel door.Parcel
		rules  plugbus.PayloadRules
		reason plugbus.Reason
		cause  string
	}{
		{door.Parcel{}, plugbus.PayloadRules{}, "", ""},
		{door.Parcel{Data: 7}, plugbus.PayloadRules{MaxBytes: 8}, "", ""},
		{door.Parcel{Data: bad, Headers: map[string]string{bad: bad}, Texts: [2]string{bad, bad}}, plugbus.PayloadRules{}, "", ""},
		{door.Parcel{Data: bad}, plugbus.PayloadRules{Content: plugbus.CheckScript}, plugbus.ReasonInvalidContent, "payload (string): the text holds a <script tag"},
		{door.Parcel{Data: bad}, plugbus.PayloadRules{MaxBytes: 8}, plugbus.ReasonTooLarge, "payload (string): the payload has more than 8 bytes"},
		{door.Parcel{Data: make(chan int)}, plugbus.PayloadRules{}, plugbus.ReasonInvalidPayload, "payload (chan int): a channel"},
		{door.Parcel{Data: plugbus.Shared(7)}, plugbus.PayloadRules{}, plugbus.ReasonSharedNotGranted, "payload (plugbus.SharedValue): plugbus.Shared needs a grant"},
		{door.Parcel{Headers: map[string]string{"k": bad}}, plugbus.PayloadRules{Content: plugbus.CheckScript}, plugbus.ReasonInvalidContent, "payload[*] (string): the text holds a <script tag"},
		{door.Parcel{Headers: map[string]string{"k": bad}}, plugbus.PayloadRules{MaxBytes: 8}, plugbus.ReasonTooLarge, "payload (map[string]string): the payload has more than 8 bytes"},
		{door.Parcel{Texts: [2]string{bad, ""}}, plugbus.PayloadRules{Content: plugbus.CheckScript}, plugbus.ReasonInvalidContent, "payload (string): the text holds a <script tag"},
		{door.Parcel{Texts: [2]string{"", bad}}, plugbus.PayloadRules{MaxBytes: 8}, plugbus.ReasonTooLarge, "payload (string): the payload has more than 8 bytes"},
	} {
		s := newScene()
		s.permit.Payload = test.rules
		_, refusal := door.Check(clock.New(), &s.act, &test.parcel)
		if test.reason == "" {
			require.Nil(t, refusal, "%+v", test)
			continue
		}
		require.NotNil(t, refusal, "%+v", test)
		require.Equal(t, test.reason, refusal.Reason, "%+v", test)
		require.ErrorContains(t, refusal.Cause, test.cause)
	}
}

// TestSize shows that the byte rate is charged for all that an act hands in, in
// one sum.
func TestSize(t *testing.T) {
	t.Parallel()
	s := newScene()
	want := 0
	for _, part := range []any{s.parcel.Data, s.parcel.Headers, s.parcel.Texts[0], s.parcel.Texts[1]} {
		_, size, err := payload.Freeze(part, &s.permit.Payload)
		require.NoError(t, err)
		require.Positive(t, size)
		want += size
	}
	_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
	require.Nil(t, refusal)
	require.Equal(t, want, s.parcel.Size)
	require.Equal(t, []int{want}, s.bytes.taken)
}

// TestParcelIsACopy is E12: what the plugin does to its own afterwards changes
// nothing.
func TestParcelIsACopy(t *testing.T) {
	t.Parallel()
	s := newScene()
	data, headers := s.parcel.Data.(*file), s.parcel.Headers
	_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
	require.Nil(t, refusal)
	data.Path, headers["k"], headers["new"] = "changed", "changed", ""
	require.Equal(t, &file{"README.md"}, payload.Thaw(s.parcel.Data))
	require.Equal(t, map[string]string{"k": "v"}, s.parcel.Headers)

	s = newScene()
	s.parcel = door.Parcel{}
	_, refusal = door.Check(clock.New(), &s.act, &s.parcel)
	require.Nil(t, refusal)
	require.Equal(t, door.Parcel{}, s.parcel, "nothing comes of nothing")
}

// TestNoMeters shows that a permit without meters has no rates.
func TestNoMeters(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.permit.Acts, s.permit.Bytes = nil, nil
	now, refusal := door.Check(clock.New(), &s.act, &s.parcel)
	require.Nil(t, refusal)
	require.False(t, now.IsZero())
}

// TestStructure shows of what kind the object of each verb is, and that what is
// none of that kind is refused as such, whatever the guard says.
func TestStructure(t *testing.T) {
	t.Parallel()
	for _, verb := range plugbus.Verbs() {
		for _, test := range []struct {
			object   string
			id, name bool
		}{
			{"indexer", true, true},
			{"bridge~indexer", true, true},
			{"files.added", false, true},
			{"dateien.größer", false, true},
			{"-indexer", false, true},
			{"", false, false},
			{"a b", false, false},
			{"files..added", false, false},
			{"*", false, false},
			{strings.Repeat("a", 200), false, true},
			{strings.Repeat("a", 300), false, false},
		} {
			ok := test.name
			if verb == plugbus.VerbSend || verb == plugbus.VerbReceive {
				ok = test.id
			}
			for _, said := range []plugbus.Reason{"", plugbus.ReasonNoSendPermission} {
				what := fmt.Sprintf("%v %q, the guard says %q", verb, test.object, said)
				s := newScene()
				s.act.Verb, s.act.Object = verb, test.object
				s.act.Permit = door.Sound(&plugbus.Permit{Version: 7, Reason: said}, verb, test.object)
				require.EqualValues(t, 7, s.act.Permit.Version, what)
				_, refusal := door.Check(clock.New(), &s.act, &s.parcel)
				switch {
				case !ok:
					require.NotNil(t, refusal, what)
					require.Equal(t, plugbus.ReasonInvalidName, refusal.Reason, what)
					require.ErrorIs(t, refusal.Cause, plugbus.ErrInvalid, what)
				case said != "":
					require.NotNil(t, refusal, what)
					require.Equal(t, said, refusal.Reason, what)
					require.NoError(t, refusal.Cause, what)
				default:
					require.Nil(t, refusal, what)
				}
			}
		}
	}
}

// TestSoundKeepsPermits shows that a permit for a name passes as it is.
func TestSoundKeepsPermits(t *testing.T) {
	t.Parallel()
	for _, permit := range []*plugbus.Permit{{Version: 7}, {Reason: plugbus.ReasonDeniedByRule}} {
		require.Same(t, permit, door.Sound(permit, plugbus.VerbEmit, "files.added"))
	}
}
