package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus/security"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write makes a folder with files.
func write(t *testing.T, files map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return folder
}

// library has three files to read, one of which needs the exemption of
// files.** from the content checks, and some to leave alone.
func library(t *testing.T) string {
	t.Helper()
	return write(t, map[string]string{
		"a.md":            "Banana, banana! Cherry.",
		"deep/b.go":       "// BANANA\n// No <script> runs here.",
		"deep/c.txt":      "",
		"binary.txt":      "a\x00b",
		"latin.txt":       "caf\xe9",
		"picture.png":     "banana",
		".hidden/d.txt":   "banana",
		"testdata/e.json": "banana",
	})
}

// command runs the command.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	status = run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

func TestTour(t *testing.T) {
	t.Parallel()
	status, out, complaints := command(t, library(t))
	require.Zero(t, status, out)
	require.Empty(t, complaints)
	require.NotContains(t, out, "✗")
	require.NotContains(t, out, "\x1b", "colours are for terminals")
	for _, line := range []string{
		`3 text files with 58 bytes. The policy: policy.json.`,
		`✓ the hub took 3 of 3 files from the reader, and refused 0`,
		`✓ the counter has handled 3 of 3`,
		`banana       3   ▪▪▪`,
		`cherry       1   ▪▪▪`,
		`✓ the history gave the reporter 3 of 3 files, in their order, with no gap and no duplicate`,
		`✓ what came next came live: "files.end"`,
		`✓ the words know what led to them: host → reader → counter`,
		`8 words, 6 of them different`,
		`✓ whatever it says of itself, it comes from "guest"`,
		`✓ what was checked is what arrived`,
		`✓ plugin "guest" may not emit "files.read": insufficient_permissions (audit record `,
		`to allow it: add "files.read" to plugins.guest.emit.allow`,
		`✓ plugin "guest" may not emit "plugin:registered": reserved_name (audit record `,
		`✓ plugin "guest" may not subscribe to`,
		`✓ plugin "guest" may not read "words": insufficient_permissions; there is no such store yet, or the policy or its owner does not let the plugin use it (audit record `,
		`to allow it: set plugins.guest.dataAccess.words.read to true`,
		`✓ plugin "guest" may not emit "guest.note": invalid_content: payload[*][1][*] (string): `,
		`✓ plugin "guest" may not emit "guest.ping": rate_limit_exceeded; try again in `,
		`✓ 100 pings are 23 that arrived and 77 that were refused so`,
		`✓ the host was alerted: alert.high_event_rate, severity high`,
		`clumsy over files.read: events: the handler panicked: runtime error: integer divide by zero`,
		`✓ it went on: 2 files handled, 1 failed`,
		`✓ the counter missed nothing: 4 handled, which are the files and their end`,
		`searcher         50        20     10      80`,
		`veteran          50         0     10      60   "text.search" has version 1.9.0, not ^2.0`,
		`✓ the searcher matches, and the veteran does not`,
		`✓ it calls the capability, and hears that "banana" is there 3 times, in 2 files; so says the counter`,
		`✓ the call went to the searcher`,
		`plugin "searcher": invalid: the request does not fit the capability: `,
		`✓ plugin "guest" may not discover "text.search": insufficient_permissions (audit record `,
		`✓ it had 5 lines, in their order`,
		`✓ the searcher stopped too: it had told `,
		`✓ the warning overtook the letters, which stayed in their order: warning, letter 1, letter 2, letter 3`,
		`✓ plugin "guest" may not send to "printer": priority_not_granted; the plugin may send with the priority normal at most, not high (audit record `,
		`would wait for itself: student → searcher → student → searcher (audit record `,
		`✓ the student knows who gets it, and who may not have it: ["guest"]`,
		`✓ the printer and the host got it, and the guest did not`,
		`revision 8 was expected, but it is 9`,
		`✓ nobody takes a sheet that is gone: `,
		`✓ the first was done, and the second not even by half: 480 on the shelf, 20 in the tray`,
		`✓ the schema of the store has rejected that`,
		`✓ plugin "guest" may not write to "paper": insufficient_permissions (audit record `,
		`to allow it: set plugins.guest.dataAccess.paper.write to true; and let an admin of the store grant it write`,
		`12   set       tray        20    19   printer`,
		`✓ the mirror has what the store has: map[shelf:480]`,
		`✓ no change is missing, none came twice, and each has what the key had before it`,
		`✓ when the student may no longer read, it is told that and nothing more: plugin "student" may not read "paper"`,
		`✓ the student was released, and knows that the handler had started`,
		`✓ the host knows who hangs: the handler of "print.jam" in the plugin "printer", set at printer.go:`,
		`✓ somebody mends the printer: its reply comes too late, and it goes on: 0 leaks`,
		`1   student   printer   print.text   failed    out of paper`,
		`✓ the host puts paper in and sends it again, and it is printed: ["Dear Ada"]`,
		`✓ the ledger balances`,
		`replace plugin "printer": start: there is no toner in it`,
		`✓ the old printer has not noticed: version 1.0.0 is ready`,
		`✓ version 2.0.1 has its place; both have printed`,
		`✓ no letter is lost, none came twice, and they stayed in their order: 24 letters`,
		`plugin.probed        hub    its arms ache`,
		`plugin.restored      hub    probe`,
		`✓ it was in quarantine once, after 6 failures`,
		`✓ the first probe did not find it well, and the second did: it is ready`,
		`✓ it is on probation`,
		`quarantine  no   the host put the plugin there: the audience wants quiet; there are no probes`,
		`✓ the ball of meanwhile was not delivered, and is counted; the next it caught`,
		`✓ 11 failed: `,
		`✓ 1 was abandoned: the jam`,
		`✓ 83 were refused: the 81 events and messages of the guest for which it got errors, and 2 of others`,
		`✓ 85 refusals are on record; the guest got 85`,
		`✓ everything was handled: 0 cancelled, 0 abandoned, 0 problems`,
		`✓ nothing is left running: 0 leaks`,
		`✓ it missed nothing: `,
		`✓ what it has counted is what the hub has in its books`,
		`checks held.`,
	} {
		require.Contains(t, out, line)
	}
}

// TestRepository runs the command as the README does.
func TestRepository(t *testing.T) {
	t.Parallel()
	status, out, complaints := command(t)
	require.Zero(t, status, out)
	require.Empty(t, complaints)
	require.Contains(t, out, "The input: this repository, ")
}

func TestAllowAll(t *testing.T) {
	t.Parallel()
	status, out, complaints := command(t, "-allow-all", library(t))
	require.Equal(t, 1, status, out)
	require.Empty(t, complaints)
	_, verdict, found := strings.Cut(out, "checks did not hold:")
	require.True(t, found, out)
	for _, claim := range []string{
		`✗ the hub took 2 of 3 files from the reader, and refused 1`, // without the exemption from content checks
		`✗ the counter has handled 2 of 3`,
		`✗ the guest could emit "files.read", with a file of its own making; expected insufficient_permissions`,
		`✗ the guest could listen to the files; expected insufficient_permissions`,
		`✗ the guest could read what the counter keeps in its store; expected insufficient_permissions`,
		`✗ the guest could emit 100 pings; expected rate_limit_exceeded`,
		`✗ that is the only failure on record`,
		`✗ the guest could call "text.search"; expected insufficient_permissions`,
		`✗ the guest could post a letter of high priority; expected priority_not_granted`,
		`✗ the student knows who gets it, and who may not have it: []`,
	} {
		require.Contains(t, verdict, claim)
	}
	for _, claim := range []string{ // what no policy can switch off
		`✓ whatever it says of itself, it comes from "guest"`,
		`✓ plugin "guest" may not emit "plugin:registered": reserved_name`,
		`✓ plugin "guest" may not emit "guest.note": invalid_content`,
		`✓ nobody takes a sheet that is gone: `,
		`✓ plugin "guest" may not write to "paper": insufficient_permissions`, // by the lists of the store
		`✓ no change is missing, none came twice`,
		`✓ the request that would close the circle was refused, and is on record`,
		`✓ the student was released, and knows that the handler had started`,
		`✓ no letter is lost, none came twice`,
		`✓ the first probe did not find it well, and the second did: it is ready`,
		`✓ the ledger balances`,
		`✓ nothing is left running: 0 leaks`,
		`✓ it missed nothing: `,
		`✓ what it has counted is what the hub has in its books`,
	} {
		require.Contains(t, out, claim)
	}
}

// TestPolicy changes one rule of the policy, and looks for the check that it
// is there for.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rule, changed, claim string }{
		{`"except": ["files.**"]`, `"except": []`, `the hub took 2 of 3 files from the reader, and refused 1`},
		{`"emit": { "allow": ["files.**"] }`, `"emit": { "allow": ["files.end"] }`, `the hub took 0 of 3 files from the reader, and refused 3`},
		{`"allow": ["guest.*"]`, `"allow": ["guest.*", "files.read"]`, `the guest could emit "files.read", with a file of its own making; expected insufficient_permissions`},
		{`"emit": { "allow": ["guest.*"] }`, `"emit": { "allow": ["guest.*"] }, "subscribe": true`, `the guest could listen to the files; expected insufficient_permissions`},
		{`"limit": 25,`, `"limit": 250,`, `the guest could emit 100 pings; expected rate_limit_exceeded`},
		{`"trust": "untrusted",`, `"trust": "untrusted", "content": { "script": false },`, `the guest could smuggle a script, deep inside of a note that it may emit; expected invalid_content`},
		{`"trust": "untrusted",`, `"trust": "untrusted", "discover": { "allow": ["text.search"] },`, `expected insufficient_permissions, got: plugin "guest" calls "text.search": `},
		{`"trust": "untrusted",`, `"trust": "untrusted", "priority": "high",`, `the guest could post a letter of high priority; expected priority_not_granted`},
		{`"priority": "high"`, `"priority": "normal"`, `the warning overtook the letters, which stayed in their order: letter 1, letter 2, letter 3; but: plugin "student" may not send to "printer": priority_not_granted`},
		{`"receive": { "allow": ["searcher"] }`, `"receive": { "allow": [] }`, `the error says who waits for whom`},
		{`"consume": { "allow": ["news.weather"] }`, `"consume": { "allow": ["news.*"] }`, `the printer and the host got it, and the guest did not`},
		{`{ "paper": { "read": true } }`, `{ "paper": { "read": true }, "words": { "read": true } }`, `the guest could read what the counter keeps in its store; expected insufficient_permissions`},
		{`{ "paper": { "read": true } }`, `{}`, `expected insufficient_permissions, got: it cannot even look`},
		{`["searcher", "veteran", "printer", "guest"]`, `["searcher", "veteran", "printer"]`, `the student knows who gets it, and who may not have it: []`},
	} {
		t.Run(c.changed, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(string(policyFile), c.rule, c.changed, 1)
			require.NotEqual(t, string(policyFile), changed)
			policy, err := security.Parse([]byte(changed), "policy.json")
			require.NoError(t, err)
			in, err := readInput([]string{library(t)})
			require.NoError(t, err)
			p := newPage(new(bytes.Buffer))
			walk, err := newTour(p, in, policy)
			require.NoError(t, err)
			held, err := walk.walk(t.Context())
			require.NoError(t, err)
			require.False(t, held)
			require.True(t, slices.ContainsFunc(p.failed, func(claim string) bool { return strings.HasPrefix(claim, c.claim) }), p.failed)
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	folder := library(t)
	for _, c := range []struct {
		args     []string
		status   int
		complain string
	}{
		{[]string{"-h"}, 0, "usage: quickstart [-allow-all] [files or folders]"},
		{[]string{"-deny-all"}, 2, "flag provided but not defined"},
		{[]string{"missing.txt"}, 2, `cannot read "missing.txt": stat missing.txt: no such file or directory`},
		{[]string{filepath.Join(folder, "a.md"), "missing.txt"}, 2, `cannot read "missing.txt"`},
		{[]string{filepath.Join(folder, "binary.txt")}, 2, "this is no text in UTF-8"},
		{[]string{filepath.Join(folder, "latin.txt")}, 2, "this is no text in UTF-8"},
		{[]string{write(t, map[string]string{"a.png": "b"})}, 2, "nothing to read in "},
		{[]string{filepath.Join(folder, "a.md"), filepath.Join(folder, "deep", "..", "a.md")}, 0, ""},
	} {
		status, out, complaints := command(t, c.args...)
		require.Equal(t, c.status, status, "%q: %s%s", c.args, out, complaints)
		require.Contains(t, complaints, c.complain)
		require.Equal(t, c.complain == "", complaints == "")
	}
}

func TestOutsideOfTheRepository(t *testing.T) {
	t.Chdir(t.TempDir())
	status, _, complaints := command(t)
	require.Equal(t, 2, status)
	require.Contains(t, complaints, "name some text files or folders")
}

func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxFileBytes)
	folder := write(t, map[string]string{"fits.txt": large, "does-not.txt": large + "x"})
	status, out, _ := command(t, folder)
	require.Zero(t, status, out)
	require.Contains(t, out, "1 text files with 1,048,576 bytes (left out, as too large or too many: 1)")
}

// TestTimeIsBounded shows that the tour ends with its context, and leaves
// nothing behind.
func TestTimeIsBounded(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var out, complaints bytes.Buffer
	require.Equal(t, 1, run(over, []string{library(t)}, &out, &complaints))
	require.Contains(t, complaints.String(), context.Canceled.Error())
}
