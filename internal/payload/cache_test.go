package payload // The cache has no other door, and isHandle asks for packages above this one.

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCacheIsBounded looks up more types than the cache keeps, as a plugin can
// make them.
func TestCacheIsBounded(t *testing.T) {
	var c cache
	for round := range 2 {
		for i := range maxPlans + maxPlans/2 {
			typ := reflect.ArrayOf(i, reflect.TypeFor[byte]())
			p := c.of(reflect.Zero(typ).Interface())
			require.Equal(t, typ, p.typ, "round %d", round)
			require.Equal(t, uint64(i), p.size)
			require.LessOrEqual(t, len(c.all), maxPlans)
		}
	}
}

// TestHandles checks which types belong to the hub: sessions and the like are
// refused even under plugbus.Shared.
func TestHandles(t *testing.T) {
	const module = "github.com/plugbus/plugbus/"
	handle, record := reflect.TypeFor[struct{ hub *int }](), reflect.TypeFor[struct {
		Name *string
		n    int
	}]()
	for _, part := range []string{"hub", "events", "router", "store", "discovery", "security", "audit"} {
		require.True(t, isHandle(module+part, handle))
		require.False(t, isHandle(module+part, record))
		require.False(t, isHandle(module+part, handle.Field(0).Type))
		require.False(t, isHandle("example.org/"+part, handle))
	}
	require.False(t, isHandle(module+"examples/quickstart", handle))
	require.Empty(t, forbidden(handle))
}

// TestCacheSharedSlot checks that types which want one slot do not build their
// plans again each time.
func TestCacheSharedSlot(t *testing.T) {
	var c cache
	first := make([]*plan, 4*len(c.hot))
	for round := range 2 {
		for i := range first {
			p := c.of(reflect.Zero(reflect.ArrayOf(i, reflect.TypeFor[byte]())).Interface())
			if round == 0 {
				first[i] = p
			}
			require.Same(t, first[i], p)
		}
	}
}
