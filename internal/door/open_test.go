package door_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/door"
)

// TestOpenAllowsEverything shows that a client without a guard may do all that
// has a name, for ever, and by reference too.
func TestOpenAllowsEverything(t *testing.T) {
	t.Parallel()
	guard := door.Open("crawler")
	require.True(t, guard.Knows("indexer"))
	for _, verb := range plugbus.Verbs() {
		for _, permit := range []*plugbus.Permit{
			guard.Permit(verb, "indexer"), guard.PermitVia(chainOf("a b"), verb, "indexer"),
			guard.PermitPattern(verb, "**", false), guard.PermitAt(7, verb, "indexer"),
		} {
			require.True(t, permit.Allowed())
			require.False(t, permit.Partial)
			require.Equal(t, guard.Version(), permit.Version)
			require.Equal(t, plugbus.PriorityHigh, permit.Priority)
			act := door.Act{Plugin: "crawler", Verb: verb, Object: "indexer", Permit: permit, MaxDepth: 1}
			parcel := door.Parcel{Data: plugbus.Shared(&file{bad}), Texts: [2]string{bad}}
			_, refusal := door.Check(clock.New(), &act, &parcel)
			require.Nil(t, refusal)
		}
	}
}

// TestOpenRefuse shows the error of an act that its mechanism refuses.
func TestOpenRefuse(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	denied, ok := errors.AsType[*plugbus.DeniedError](door.Open("crawler").Refuse(plugbus.Refusal{
		Verb: plugbus.VerbEmit, Object: strings.Repeat("a", 1<<20), Reason: plugbus.ReasonTooLarge,
		RetryAfter: time.Second, Hint: "hint", Chain: chainOf("a b"), Cause: cause,
	}))
	require.True(t, ok)
	require.Equal(t, plugbus.DeniedError{
		Plugin: "crawler", Verb: plugbus.VerbEmit, Object: plugbus.CutText(strings.Repeat("a", 1<<20)), Reason: plugbus.ReasonTooLarge,
		RetryAfter: time.Second, Hint: "hint", Chain: denied.Chain, Cause: cause,
	}, *denied)
	require.Equal(t, "a → b", denied.Chain.String())
}
