package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestCrashFileTooLarge writes in a process whose files may not grow beyond a limit, until
// a write fails. It is reported, the stores can be read and not be written, and when they
// are opened again all that was done is there, and nothing else.
func TestCrashFileTooLarge(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{200_000, 1_200_000} {
		dir := newDir(t)
		out, err := storeChild(t, "limited", dir, strconv.Itoa(limit)).Output()
		require.NoError(t, err)
		n, err := strconv.Atoi(strings.TrimSpace(string(out)))
		require.NoError(t, err)
		require.NotZero(t, n)

		db, err := openStores(dir)
		require.NoError(t, err)
		c, err := db.Client("a", store.ClientOptions{})
		require.NoError(t, err)
		v, err := c.Open(t.Context(), "notes")
		require.NoError(t, err)
		require.NoError(t, checkLimited(v, n))
		_, err = v.Create(t.Context(), strconv.Itoa(n), nil)
		require.NoError(t, err)
		require.NoError(t, db.Close(t.Context()))
	}
}

// checkLimited checks that a store has what n writes have made, and nothing else.
func checkLimited(v *store.View, n int) error {
	count := 0
	for e, err := range v.Entries(context.Background(), store.All()) {
		if err != nil {
			return err
		}
		if e.Text() != limitedValue(e.Key()) {
			return fmt.Errorf("the value of %q is another", e.Key())
		}
		count++
	}
	if count != n {
		return fmt.Errorf("there are %d entries, and %d writes were done", count, n)
	}
	return nil
}

func limitedValue(key string) string { return strings.Repeat(key+" ", 1000) }

// limitedChild writes until it fails, and prints how many writes were done.
func limitedChild(dir, limit string) {
	ctx := context.Background()
	most, err := strconv.ParseUint(limit, 10, 64)
	orDie(err)
	db, err := openStores(dir)
	orDie(err)
	c, err := db.Client("a", store.ClientOptions{})
	orDie(err)
	v, err := c.Create(ctx, "notes", store.Config{Persistent: true})
	orDie(err)
	memory, err := c.Create(ctx, "memory", store.Config{})
	orDie(err)
	signal.Ignore(syscall.SIGXFSZ)
	orDie(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most}))
	n := 0
	for ; err == nil; n++ {
		key := strconv.Itoa(n)
		_, err = v.Set(ctx, key, []byte(limitedValue(key)))
	}
	n--
	_, again := v.Set(ctx, "again", nil)
	switch {
	case !strings.Contains(err.Error(), syscall.EFBIG.Error()): // bbolt does not wrap it.
		orDie(fmt.Errorf("it failed for another reason: %w", err))
	case !errors.Is(err, store.ErrNotDone) && !errors.Is(err, store.ErrReadOnly):
		orDie(fmt.Errorf("a write that ends at a limit is never seen: %w", err))
	case !errors.Is(again, store.ErrReadOnly):
		orDie(fmt.Errorf("it is not read-only: %w", again))
	case !errors.Is(v.Drop(ctx), store.ErrReadOnly):
		orDie(errors.New("it can be dropped"))
	}
	orDie(checkLimited(v, n))
	_, err = memory.Set(ctx, "key", nil)
	orDie(err)
	_ = db.Close(ctx) // The engine may not be able to make a checkpoint.
	fmt.Println(n)
}
