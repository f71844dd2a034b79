package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "play the world of this seed, a hundred times")
	forFlag    = flag.Duration("for", 0, "play worlds of fresh seeds for so long")
	worldsFlag = flag.Int("worlds", 60, "play so many worlds, of seeds from 1 on")
	againFlag  = flag.Int("again", 100, "play a world so often whose seed is given, or has failed")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWorlds plays worlds, and expects that every promise is kept in each.
func TestWorlds(t *testing.T) {
	var total Tally
	played, failures := 0, 0
	begin := time.Now()
	next := func(seed uint64) {
		violations, tally := playOne(t, seed)
		total.Add(tally)
		played++
		if len(violations) > 0 {
			t.Errorf("the world of seed %d breaks promises:\n%s", seed, strings.Join(violations, "\n"))
			if failures++; *seedFlag == 0 {
				failed := 1
				for range *againFlag {
					if violations, _ := playOne(t, seed); len(violations) > 0 {
						failed++
					}
				}
				t.Logf("seed %d failed %d times of %d; to play it: go test ./hub/internal/sim -seed %d", seed, failed, *againFlag+1, seed)
			}
			if failures >= 5 {
				t.Fatal("enough")
			}
		}
	}
	switch {
	case *seedFlag != 0:
		for range *againFlag {
			next(*seedFlag)
		}
	case *forFlag > 0:
		for time.Since(begin) < *forFlag {
			next(rand.Uint64())
		}
	default:
		for seed := range *worldsFlag {
			next(uint64(seed + 1)) //nolint:gosec // It is small.
		}
	}
	t.Logf("%d worlds, %d operations, %v simulated in %v: %+v", played, total.Operations(), total.Simulated, time.Since(begin).Round(time.Millisecond), total)
}

// stuckAfter is how long a world may take, in real time, before it counts as stuck.
const stuckAfter = 2 * time.Minute

// playOne plays one world.
func playOne(t *testing.T, seed uint64) (violations []string, tally Tally) {
	t.Helper()
	stuck := time.AfterFunc(stuckAfter, func() {
		// A goroutine that waits for a lock stops the simulated time, and nothing else ends the test.
		stacks := make([]byte, 4<<20)
		fmt.Fprintf(os.Stderr, "the world of seed %d has not ended after %v:\n%s\n", seed, stuckAfter, stacks[:runtime.Stack(stacks, true)])
		os.Exit(1)
	})
	defer stuck.Stop()
	synctest.Test(t, func(t *testing.T) {
		plan, err := NewPlan(seed)
		require.NoError(t, err)
		violations, tally, err = plan.Run(synctest.Wait)
		require.NoError(t, err)
	})
	return violations, tally
}
