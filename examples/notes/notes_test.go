package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/store/disk"
)

// asCommand is set in the environment of a child that is to be the command.
const asCommand = "PLUGBUS_NOTES_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// command runs the command.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	status = run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// noteLine is the line of a note, without its time.
var noteLine = regexp.MustCompile(`(?m)^(kept|new) +(\d+\.\d+)  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (.*)$`)

// notes returns the notes of a page, such as "new 1.1: text".
func notes(page string) (found []string) {
	for _, line := range noteLine.FindAllStringSubmatch(page, -1) {
		found = append(found, fmt.Sprintf("%s %s: %s", line[1], line[2], line[3]))
	}
	return found
}

func TestRunAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "the", "command")
	for _, c := range []struct {
		args []string
		want []string
		last string
	}{
		{[]string{"-note", "buy milk"}, []string{"new 1.1: buy milk"}, "0 kept, 1 new."},
		{[]string{"-count", "2"}, []string{"kept 1.1: buy milk", "new 2.1: This is note 1 of run 2.", "new 2.2: This is note 2 of run 2."}, "1 kept, 2 new."},
		{[]string{"-count", "0"}, []string{"kept 1.1: buy milk", "kept 2.1: This is note 1 of run 2.", "kept 2.2: This is note 2 of run 2."}, "3 kept, 0 new."},
	} {
		status, out, complaints := command(t, append(c.args, "-dir", dir)...)
		require.Zero(t, status, complaints)
		require.Empty(t, complaints)
		require.Equal(t, c.want, notes(out), out)
		require.Contains(t, out, "\n"+c.last)
		require.Contains(t, out, dir)
	}
}

// TestKilled kills the command while it writes, again and again, and finds every note
// that it has printed: none is missing, none is half there.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var printed []string
	for _, after := range []int{1, 20, 200} {
		before := len(printed)
		printed = append(printed, killed(t, dir, after)...)
		require.GreaterOrEqual(t, len(printed)-before, after)
	}
	status, out, complaints := command(t, "-dir", dir, "-count", "0")
	require.Zero(t, status, complaints)
	kept := map[string]bool{}
	last := [2]int{}
	for _, note := range notes(out) {
		var run, number int
		_, err := fmt.Sscanf(note, "kept %d.%d", &run, &number)
		require.NoError(t, err, note)
		require.Equal(t, fmt.Sprintf("kept %d.%d: This is note %d of run %d.", run, number, number, run), note)
		if run == last[0] {
			require.Equal(t, last[1]+1, number, "no note of a run is missing before its last: %s", note)
		}
		kept[note] = true
		last = [2]int{run, number}
	}
	for _, note := range printed {
		require.True(t, kept[strings.Replace(note, "new", "kept", 1)], "%q was printed, and is lost", note)
	}
}

// killed starts the command as a process of its own, kills it when it has printed so
// many new notes, and returns all that it had printed by then.
func killed(t *testing.T, dir string, after int) (printed []string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-dir", dir, "-count", "1000000")
	child.Env = append(os.Environ(), asCommand+"=1")
	var complaints bytes.Buffer
	child.Stderr = &complaints
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	for lines := bufio.NewReader(stdout); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) { // A line without an end was not printed.
			break
		}
		require.NoError(t, err)
		if note := notes(line); len(note) == 1 && strings.HasPrefix(note[0], "new") {
			if printed = append(printed, note[0]); len(printed) == after {
				require.NoError(t, child.Process.Kill())
			}
		}
	}
	require.Error(t, child.Wait(), "it was killed")
	require.Empty(t, complaints.String())
	return printed
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	locked := filepath.Join(dir, "locked")
	engine, err := disk.Open(locked, disk.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, engine.Close()) }()
	for _, c := range []struct {
		args     []string
		status   int
		complain string
	}{
		{[]string{"-h"}, 0, "the folder of the notes"},
		{[]string{"-forget"}, 2, "flag provided but not defined"},
		{[]string{"buy milk"}, 2, `a note is given as -note "buy milk"`},
		{[]string{"-count", "-1"}, 2, "-count is -1; expected 0 or more"},
		{[]string{"-dir", file}, 1, file},
		{[]string{"-dir", locked}, 1, "in use"},
		{[]string{"-dir", dir + "/script", "-note", "<script>steal()</script>"}, 1, "invalid_content"},
	} {
		status, out, complaints := command(t, c.args...)
		require.Equal(t, c.status, status, "%q: %s%s", c.args, out, complaints)
		require.Contains(t, complaints, c.complain)
	}
}

func TestDefaultFolder(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // On Linux;
	t.Setenv("HOME", t.TempDir())           // on a Mac;
	t.Setenv("LocalAppData", t.TempDir())   // and on Windows.
	caches, err := os.UserCacheDir()
	require.NoError(t, err)
	status, out, complaints := command(t)
	require.Zero(t, status, complaints)
	require.Contains(t, out, "The notes in "+filepath.Join(caches, "plugbus-notes")+":")
}

// TestFullOutput shows that what cannot be printed is no success.
func TestFullOutput(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	require.NoError(t, reader.Close())
	var complaints bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-dir", t.TempDir()}, writer, &complaints))
	require.Contains(t, complaints.String(), io.ErrClosedPipe.Error())
}

// The reader cannot write, by the policy and by the lists of the store.
func TestDecisions(t *testing.T) {
	t.Parallel()
	policy := hubtest.PolicyFile(t, "policy.json")
	hubtest.RequireDecision(t, policy, "writer", plugbus.VerbCreate, "notes", "")
	hubtest.RequireDecision(t, policy, "writer", plugbus.VerbCreate, "others", plugbus.ReasonInsufficientPermissions)
	hubtest.RequireDecision(t, policy, "reader", plugbus.VerbRead, "notes", "")
	hubtest.RequireDecision(t, policy, "reader", plugbus.VerbWrite, "notes", plugbus.ReasonInsufficientPermissions)
}
