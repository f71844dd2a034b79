package disk_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// These tests are about package store and this one together: what plugins were told was
// done is there after a crash, all of it, and nothing by halves (D12).

// storeEnv says what a process that a test has started does with stores: a name, and then
// words for it.
const storeEnv = "PLUGBUS_STORE_CHILD"

// storeChild returns a command that does in another process what words say.
func storeChild(t *testing.T, words ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestCrashStoreChild$")
	cmd.Env = append(os.Environ(), storeEnv+"="+strings.Join(words, "\n"))
	cmd.Stderr = os.Stderr
	return cmd
}

// TestCrashStoreChild is what such a process runs. Otherwise it does nothing.
func TestCrashStoreChild(t *testing.T) {
	words := strings.Split(os.Getenv(storeEnv), "\n")
	switch words[0] {
	case "":
		return
	case "write":
		writeChild(words[1], words[2:])
	case "limited":
		limitedChild(words[1], words[2])
	}
	os.Exit(0)
}

// openStores opens a directory.
func openStores(dir string) (*store.DB, error) {
	engine, err := disk.Open(dir, disk.Options{LogBytes: 1 << 15})
	if err != nil {
		return nil, err
	}
	return store.Open(store.Options{Backend: engine})
}

// A crashWriter does steps that depend on nothing but their number. It has keys of its
// own in two stores that all share, and a store of its own.
type crashWriter struct {
	id     string
	client *store.Client
	shared [2]*store.View
	own    *store.View // nil if it is dropped
}

// step does step n, and returns the entry that it made, if any, and in which store.
func (w *crashWriter) step(ctx context.Context, n int) (name string, e store.Entry, err error) {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	v := w.shared[r.IntN(2)]
	if w.own != nil && r.IntN(5) == 0 {
		v = w.own
	}
	e, err = w.write(ctx, n, r, v)
	return v.Name(), e, err
}

func (w *crashWriter) write(ctx context.Context, n int, r *rand.Rand, v *store.View) (e store.Entry, err error) {
	key := func() string { return fmt.Sprint(w.id, "/", r.IntN(30)) }
	value := func() []byte { return []byte(strings.Repeat(strconv.Itoa(n)+" ", r.IntN(100))) }
	switch r.IntN(10) {
	case 0:
		return e, v.Delete(ctx, key())
	case 1: // Nobody asks for it, but it has to go.
		return v.Set(ctx, "brief/"+key(), value(), store.TTL(time.Millisecond))
	case 2:
		key := key()
		old, err := v.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return v.Create(ctx, key, value(), store.TTL(time.Hour))
		}
		if err != nil {
			return e, err
		}
		return v.Update(ctx, key, value(), old.Revision())
	case 3, 4, 5:
		return e, v.Txn(ctx, func(tx *store.Tx) error {
			for range 1 + r.IntN(10) {
				if r.IntN(3) == 0 {
					err = tx.Delete(key())
				} else {
					err = tx.Set(key(), value())
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	case 6:
		if w.own == nil {
			w.own, err = w.client.Create(ctx, w.id, store.Config{Persistent: true, Read: []string{"host"}})
		} else if r.IntN(3) == 0 {
			err = w.own.Drop(ctx)
			w.own = nil
		}
		return e, err
	}
	return v.Set(ctx, key(), value())
}

// newCrashWriter joins a writer. The stores that all share are those of the host.
func newCrashWriter(ctx context.Context, db *store.DB, id string, host *store.Client) (*crashWriter, error) {
	w := &crashWriter{id: id}
	var err error
	if w.client, err = db.Client(id, store.ClientOptions{}); err != nil {
		return nil, err
	}
	for i, name := range []string{"left", "right"} {
		_, err := host.Create(ctx, name, store.Config{Persistent: true, Read: []string{store.Everyone}, Write: []string{store.Everyone}})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return nil, err
		}
		if w.shared[i], err = w.client.Open(ctx, name); err != nil {
			return nil, err
		}
	}
	if w.own, err = w.client.Open(ctx, id); errors.Is(err, store.ErrNotFound) {
		w.own, err = nil, nil
	}
	return w, err
}

// storesOf returns what a DB holds: the values of the entries of a writer, and with them
// those of its own store, which itself is there if it is.
func storesOf(host *store.Client, id string) (map[string]string, error) {
	all := map[string]string{}
	for _, name := range []string{"left", "right", id} {
		v, err := host.Open(context.Background(), name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if name == id {
			all[id] = "it is there"
		}
		now := time.Now()
		for e, err := range v.Entries(context.Background(), store.All()) {
			if err != nil {
				return nil, err
			}
			if at := e.Expires(); !at.IsZero() && !at.After(now) {
				return nil, fmt.Errorf("%q is there, which has expired", e.Key())
			}
			if strings.HasPrefix(e.Key(), id+"/") {
				all[name+":"+e.Key()] = e.Text()
			}
		}
	}
	return all, nil
}

// writeChild goes on from the steps that its writers have done, for ever.
func writeChild(dir string, done []string) {
	ctx := context.Background()
	db, err := openStores(dir)
	orDie(err)
	host, err := db.Client("host", store.ClientOptions{})
	orDie(err)
	for i, from := range done {
		w, err := newCrashWriter(ctx, db, fmt.Sprint("w", i), host)
		orDie(err)
		n, err := strconv.Atoi(from)
		orDie(err)
		go func() {
			for {
				n++
				name, e, err := w.step(ctx, n)
				orDie(err)
				_, err = fmt.Fprintf(os.Stdout, "%d %d %s %d\n", i, n, name, e.Revision()) // One write is one line.
				orDie(err)
			}
		}()
	}
	for {
		orDie(db.Compact(ctx))
	}
}

// TestCrash kills a process with several writers at random moments. Its writers go on in
// the next where they have been.
func TestCrash(t *testing.T) {
	t.Parallel()
	const writers = 5
	rounds := 8
	if s := os.Getenv(crashRounds); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err, "%s is the number of rounds", crashRounds)
	}
	dir := filepath.Join(t.TempDir(), "new")
	var done [writers]int               // steps of each that are there
	var last [writers]map[string]uint64 // the latest revision that each was told, by store
	for i := range last {
		last[i] = map[string]uint64{}
	}
	model := newCrashModel(t) // which does the same without a crash
	for round := range rounds {
		words := []string{"write", dir}
		for _, n := range done {
			words = append(words, strconv.Itoa(n))
		}
		cmd := storeChild(t, words...)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		told := done
		lines := bufio.NewScanner(out)
		read := func() bool {
			if !lines.Scan() {
				return false
			}
			var i, n int
			var name string
			var revision uint64
			_, err := fmt.Sscan(lines.Text(), &i, &n, &name, &revision)
			require.NoError(t, err, lines.Text())
			require.Equal(t, told[i]+1, n)
			told[i] = n
			if revision != 0 {
				require.Greater(t, revision, last[i][name], "the revision went back")
				last[i][name] = revision
			}
			return true
		}
		if round%4 > 0 { // Otherwise perhaps while it opens.
			read()
		}
		for stop := rand.IntN(400); stop > 0 && round%4 > 0; stop-- {
			require.True(t, read(), "the process ended by itself")
		}
		for range rand.IntN(10_000_000) { // Any moment will do.
		}
		require.NoError(t, cmd.Process.Kill())
		for read() {
		}
		require.Error(t, cmd.Wait())

		db, err := openStores(dir)
		require.NoError(t, err)
		host, err := db.Client("host", store.ClientOptions{Superuser: true})
		require.NoError(t, err)
		for i := range writers {
			is, err := storesOf(host, fmt.Sprint("w", i))
			require.NoError(t, err)
			want := model.after(i, told[i])
			if !maps.Equal(is, want) {
				told[i]++ // The last may have been done, and not been told.
				require.Equal(t, model.after(i, told[i]), is, "writer %d after step %d, or one before", i, told[i])
			}
		}
		done = told
		require.NoError(t, db.Close(t.Context()))
	}
	t.Logf("%d rounds, %v steps", rounds, done)
}

// A crashModel does in memory what the writers do.
type crashModel struct {
	t       *testing.T
	db      *store.DB
	host    *store.Client
	writers map[int]*crashWriter
	done    map[int]int
}

func newCrashModel(t *testing.T) *crashModel {
	m := &crashModel{t: t, writers: map[int]*crashWriter{}, done: map[int]int{}}
	var err error
	m.db, err = store.Open(store.Options{Backend: nothing{}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.db.Close(context.Background())) })
	m.host, err = m.db.Client("host", store.ClientOptions{Superuser: true})
	require.NoError(t, err)
	return m
}

// after returns what a writer has after step n, which is not before the last.
func (m *crashModel) after(i, n int) map[string]string {
	ctx := m.t.Context()
	w := m.writers[i]
	if w == nil {
		var err error
		w, err = newCrashWriter(ctx, m.db, fmt.Sprint("w", i), m.host)
		require.NoError(m.t, err)
		m.writers[i] = w
	}
	for ; m.done[i] < n; m.done[i]++ {
		_, _, err := w.step(ctx, m.done[i]+1)
		require.NoError(m.t, err)
	}
	all, err := storesOf(m.host, w.id)
	require.NoError(m.t, err)
	return all
}

// A nothing is a backend that keeps nothing.
type nothing struct{ store.Backend }

func (nothing) Load(func(bucket, key string, value []byte) error) error { return nil }
func (nothing) Commit([]store.Op) error                                 { return nil }
func (nothing) Close() error                                            { return nil }

// TestCrashFailedSync fails the sync of the log below the group commit, once or for ever.
// The writers are told, what was done can be read, and nothing is written any more;
// reopening is clean.
func TestCrashFailedSync(t *testing.T) {
	t.Parallel()
	for times, outcome := range map[int]error{1: store.ErrNotDone, 1 << 30: store.ErrUnknown} {
		dir := newDir(t)
		f := &faulty{step: "never", times: times}
		engine, err := disk.Open(dir, disk.WithFault(disk.Options{}, func(step string) error { return f.fault(step) }))
		require.NoError(t, err)
		db, err := store.Open(store.Options{Backend: engine})
		require.NoError(t, err)
		c, err := db.Client("a", store.ClientOptions{})
		require.NoError(t, err)
		v, err := c.Create(t.Context(), "notes", store.Config{Persistent: true})
		require.NoError(t, err)
		_, err = v.Set(t.Context(), "key", []byte("1"))
		require.NoError(t, err)
		f.step = "append sync"

		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := v.Set(t.Context(), "key", []byte("2"))
				if !errors.Is(err, store.ErrReadOnly) && !errors.Is(err, outcome) {
					t.Errorf("it should match %v: %v", outcome, err)
				}
			})
		}
		wg.Wait()
		_, err = v.Set(t.Context(), "key", []byte("3"))
		require.ErrorIs(t, err, store.ErrReadOnly)
		require.ErrorIs(t, err, errFault)
		require.Error(t, v.Drop(t.Context()))
		e, err := v.Get(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, "1", e.Text())
		_ = db.Close(t.Context()) // The engine may not be able to make a checkpoint.

		db, err = openStores(dir)
		require.NoError(t, err)
		c, err = db.Client("a", store.ClientOptions{})
		require.NoError(t, err)
		v, err = c.Open(t.Context(), "notes")
		require.NoError(t, err)
		e, err = v.Get(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, "1", e.Text())
		_, err = v.Set(t.Context(), "key", []byte("3"))
		require.NoError(t, err)
		require.NoError(t, db.Close(t.Context()))
	}
}

// orDie ends a process that a test has started, and says why.
func orDie(err error) {
	if err != nil {
		panic(err)
	}
}
