package topic_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/internal/topic"
)

func TestIndex(t *testing.T) {
	var x topic.Index[string]
	for _, text := range []string{"a.b", "a.*", "*.b", "a.**", "**", "plugin:*", "*:x", "a", "c.*"} {
		x.Add(topic.MustParse(text), text)
	}
	require.Equal(t, 9, x.Len())
	for _, test := range []struct {
		name string
		want []string
	}{
		{"a.b", []string{"a.b", "a.*", "*.b", "a.**", "**"}},
		{"a", []string{"a", "**"}},
		{"a.b.c", []string{"a.**", "**"}},
		{"plugin:x", []string{"plugin:*"}}, // H7: neither "**" nor "*:x" reaches the hub's own names
		{"other:x", []string{"*:x", "**"}},
		{"", nil},
	} {
		require.ElementsMatch(t, test.want, x.Append(nil, test.name), "%q", test.name)
	}
}

func TestIndexSamePatternTwice(t *testing.T) {
	var x topic.Index[int]
	p, q := topic.MustParse("a.*"), topic.MustParse("*.b")
	x.Add(p, 1)
	x.Add(p, 1)
	x.Add(p, 2)
	x.Add(q, 1)
	require.Equal(t, 3, x.Len())
	require.ElementsMatch(t, []int{1, 1, 2}, x.Append(nil, "a.b"))

	require.Equal(t, []int{7, 1}, x.Append([]int{7}, "x.b"), "what dst holds stays")

	require.True(t, x.Remove(p, 1))
	require.False(t, x.Remove(p, 1))
	require.False(t, x.Remove(topic.MustParse("a.*.c"), 1), "no such branch")
	require.False(t, x.Remove(topic.MustParse("b.c"), 1), "no such branch")
	require.False(t, x.Remove(mustParseKey("a.*"), 2), "a pattern of keys is another pattern")
	require.ElementsMatch(t, []int{1, 2}, x.Append(nil, "a.b"))
}

// The index always holds what a plain list of patterns and values holds, finds
// what scanning that list finds, and is as if new once all is removed.
func TestIndexAgreesWithScan(t *testing.T) {
	type entry struct {
		pattern topic.Pattern
		value   int
	}
	rapid.Check(t, func(t *rapid.T) {
		var x, twin topic.Index[int] // twin goes through the same
		model := map[entry]bool{}
		patterns := append(rapid.SliceOfN(drawPattern, 1, 8).Draw(t, "patterns"), topic.Pattern{})
		patterns = append(patterns, rapid.SliceOfN(drawKeyPattern, 0, 4).Draw(t, "key patterns")...)

		add := func(e entry) {
			x.Add(e.pattern, e.value)
			twin.Add(e.pattern, e.value)
			model[e] = true
		}
		remove := func(e entry) {
			require.Equal(t, model[e], x.Remove(e.pattern, e.value))
			require.Equal(t, model[e], twin.Remove(e.pattern, e.value))
			delete(model, e)
		}
		draw := func(t *rapid.T) entry {
			return entry{rapid.SampledFrom(patterns).Draw(t, "pattern"), rapid.IntRange(0, 39).Draw(t, "value")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":    func(t *rapid.T) { add(draw(t)) },
			"remove": func(t *rapid.T) { remove(draw(t)) },
			"add many": func(t *rapid.T) {
				for e := draw(t); e.value >= 0; e.value-- {
					add(e)
				}
			},
			"remove many": func(t *rapid.T) {
				for e := draw(t); e.value >= 0; e.value-- {
					remove(e)
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model), x.Len())
				name := rapid.OneOf(drawName, drawKey).Draw(t, "name")
				var want []int
				for e := range model {
					if e.pattern.Match(name) {
						want = append(want, e.value)
					}
				}
				got := x.Append(nil, name)
				require.Equal(t, got, twin.Append(nil, name), "the order depends only on what was done")
				slices.Sort(want)
				slices.Sort(got)
				require.Equal(t, want, got)
			},
		})
		for e := range model {
			remove(e)
		}
		require.Equal(t, topic.Index[int]{}, x)
	})
}

// An index that was large keeps nothing of its size: neither branches, nor
// maps, nor values.
func TestIndexFrees(t *testing.T) {
	type value struct{ _ [256]byte }
	const n = 20_000
	patterns := make([]topic.Pattern, n)
	for i := range patterns {
		patterns[i] = topic.MustParse(fmt.Sprintf("a.%d.*", i))
	}
	var x topic.Index[*value]
	kept, common := new(value), topic.MustParse("a.**")
	x.Add(patterns[0], kept)
	x.Add(common, kept)

	before := heap()
	values := make([]*value, n)
	for i, p := range patterns {
		values[i] = new(value)
		x.Add(p, values[i])
		x.Add(common, values[i])
	}
	require.Greater(t, heap()-before, int64(n*256))
	for i, p := range patterns {
		require.True(t, x.Remove(p, values[i]))
		require.True(t, x.Remove(common, values[i]))
	}
	require.Less(t, heap()-before, int64(n), "bytes")
	require.Equal(t, []*value{kept, kept}, x.Append(nil, "a.0.b"))
	runtime.KeepAlive(patterns)
}

// A value that was removed is not kept by the place where it stood.
func TestIndexFreesValue(t *testing.T) {
	var x topic.Index[*[64]byte]
	p := topic.MustParse("a")
	x.Add(p, new([64]byte))
	removed := new([64]byte)
	x.Add(p, removed)
	require.True(t, x.Remove(p, removed))
	gone := weak.Make(removed)
	runtime.GC()
	require.Nil(t, gone.Value())
	require.Len(t, x.Append(nil, "a"), 1)
}

// heap returns the bytes that are reachable.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestIndexAllocs(t *testing.T) {
	x := crowd(1000)
	dst := make([]int, 0, 10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if dst = x.Append(dst[:0], "orders.eu.new"); len(dst) != 10 {
			t.Errorf("got %d values, want 10", len(dst))
		}
	}))
}

// crowd returns an index of n patterns, of which ten match "orders.eu.new" and
// most others begin like it.
func crowd(n int) *topic.Index[int] {
	x := new(topic.Index[int])
	for i, text := range []string{
		"orders.eu.new", "orders.eu.*", "orders.*.new", "orders.*.*", "orders.eu.**",
		"orders.*.**", "orders.**", "*.eu.new", "*.*.*", "**",
	} {
		x.Add(topic.MustParse(text), i)
	}
	for i := x.Len(); i < n; i++ {
		form := []string{"orders.eu.n%d", "orders.*.n%d", "orders.e%d.*", "*.e%d.new", "o%d.**", "orders.eu.new.n%d"}[i%6]
		x.Add(topic.MustParse(fmt.Sprintf(form, i)), i)
	}
	return x
}
