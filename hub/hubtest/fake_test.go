package hubtest_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeTB is a test that may fail without failing the real one.
type fakeTB struct {
	testing.TB

	mu       sync.Mutex // guards below
	failures []string
	logs     []string
	output   bytes.Buffer
	cleanups []func()
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *fakeTB) Logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = append(f.logs, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Cleanup(clean func()) { f.cleanups = append(f.cleanups, clean) }

func (f *fakeTB) Output() io.Writer { return f }

func (f *fakeTB) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.Write(line)
}

// try runs a test to its end, clean-ups included, and returns it.
func try(t *testing.T, test func(tb testing.TB)) *fakeTB {
	f := &fakeTB{TB: t}
	run := func(g func()) {
		var wait sync.WaitGroup
		wait.Go(g) // Ends itself where a real test would be ended.
		wait.Wait()
	}
	run(func() { test(f) })
	for _, clean := range slices.Backward(f.cleanups) {
		run(clean)
	}
	return f
}

// requireFailure asserts that the test failed once, with a message that has
// all the texts.
func (f *fakeTB) requireFailure(t *testing.T, texts ...string) {
	t.Helper()
	require.Len(t, f.failures, 1)
	for _, text := range texts {
		require.Contains(t, f.failures[0], text)
	}
}

// requirePass asserts that the test did not fail, and logged all the texts.
func (f *fakeTB) requirePass(t *testing.T, texts ...string) {
	t.Helper()
	require.Empty(t, f.failures)
	for _, text := range texts {
		require.Contains(t, strings.Join(f.logs, "\n"), text)
	}
}

const shopPolicy = `{
  "version": 1,
  "plugins": {
    "shop":     { "emit": { "allow": ["orders.**"], "deny": ["orders.internal.*"] } },
    "invoices": { "emit": { "allow": ["invoices.*"] }, "subscribe": { "allow": ["orders.*"] } },
    "mailer":   { "subscribe": { "allow": ["invoices.*", "orders.placed"] } }
  }
}`

func newShop(tb testing.TB, options ...hubtest.Option) *hubtest.Hub {
	tb.Helper()
	return hubtest.New(tb, hubtest.Policy(tb, shopPolicy), options...)
}
