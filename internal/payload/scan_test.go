package payload_test

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

func TestScan(t *testing.T) {
	const none = plugbus.ContentChecks(0)
	for _, test := range []struct {
		text string
		want plugbus.ContentChecks
	}{
		{"", none},
		{"<", none},
		{"j", none},
		{"<script", plugbus.CheckScript},
		{"<script>", plugbus.CheckScript},
		{"<ScRiPt\f", plugbus.CheckScript},
		{"<script src=x>", plugbus.CheckScript}, // no end tag is needed (S17)
		{"<script/", plugbus.CheckScript},
		{"<<script>", plugbus.CheckScript},
		{"<script\x00>", none}, // a longer name
		{"<script-x>", none},
		{"<scripts>", none},
		{"<scrip", none},
		{"</script>", none},
		{"<\u017fcript>", none}, // browsers fold ASCII only

		{"javascript:", plugbus.CheckScheme},
		{" \t\x00\x7fjavascript:", plugbus.CheckScheme},
		{"java\tscript:", plugbus.CheckScheme}, // S17
		{"J\nA\nV\nA\nS\nC\nR\nI\nP\nT\n:", plugbus.CheckScheme},
		{"'javascript:", plugbus.CheckScheme},
		{"x=javascript:", plugbus.CheckScheme},
		{"x = \"\n javascript:", plugbus.CheckScheme},
		{"x`javascript:", plugbus.CheckScheme},
		{"x javascript:", none},
		{"jjavascript:", none},
		{"javascript", none},
		{"javascript;", none},
		{"java script", none},
		{"ja=javascript:", plugbus.CheckScheme},
		{"java\u017fcript:", none},
		{"\u00a0javascript:", none},

		{"<a onx=", plugbus.CheckAttribute},
		{"<img src=x onerror\n=alert(1)>", plugbus.CheckAttribute}, // S17
		{"<a/onx=", plugbus.CheckAttribute},
		{"<a\nONX\t=", plugbus.CheckAttribute},
		{"<a b onx=", plugbus.CheckAttribute},
		{"<a b=c onx=", plugbus.CheckAttribute},
		{"<a b='>' onx=", plugbus.CheckAttribute},
		{"<a b='\"'onx=", plugbus.CheckAttribute},
		{"<a <b onx=", plugbus.CheckAttribute},
		{"<a><b onx=", plugbus.CheckAttribute},
		{"<<a onx=", plugbus.CheckAttribute},
		{"<a b=><c onx=", plugbus.CheckAttribute},
		{"<a on=", none},
		{"<a on1=", none},
		{"<a o\u212anx=", none},
		{"<a xonx=", none},
		{"<a =\"x onx=", plugbus.CheckAttribute}, // a '=' may begin a name, after which a quote is no quote
		{"<a =onx=", none},                       // a browser takes =onx as the name
		{"<a b=onx=", none},
		{"<a b= onx=", none},
		{"<a b='onx=", none},
		{"<a b=' onx='>", none},
		{"<a b=\"' onx=\">", none},
		{"<a>onx=", none},
		{"<a b='<c onx=", plugbus.CheckAttribute},
		{"<a b='<c d=\"<e onx=", plugbus.CheckAttribute},
		{"<a b=\"<c d='\">' onx=", plugbus.CheckAttribute},
		{"<a b='<c onx' onx=", plugbus.CheckAttribute},
		{"<a b='<c' onx", none},
		{"<a b='<c d=\"' onx>=", none},
		{"<a onx>=", none},
		{"<a onx/=", none},
		{"< a onx=", none},
		{"</a onx=", none},
		{"<1 onx=", none},
		{"<aonx=", none},
		{"month=3", none},       // S16
		{"?session_id=5", none}, // S16
		{"content=x", none},     // S16
		{"once =", none},        // S16
		{"a < b and on = 3", none},

		{"<script onx='javascript:", plugbus.CheckAll},
	} {
		require.Equal(t, test.want, payload.Scan(test.text, plugbus.CheckAll), "%q", test.text)
		// Far from the ends, and past the length up to which short texts have a way of their own.
		long := strings.Repeat("x", 200)
		if test.want != 0 && !strings.HasSuffix(test.text, "script") && test.want != plugbus.CheckScheme {
			require.Equal(t, test.want, payload.Scan(long+test.text+long, plugbus.CheckAll), "%q", test.text)
		}
		for want := range plugbus.CheckAll + 1 {
			require.Equal(t, test.want&want, payload.Scan(test.text, want), "%q", test.text)
		}
	}
}

// TestRates measures the checks on the texts in testdata, and compares the
// figures with those that the package comment publishes (S16).
func TestRates(t *testing.T) {
	ordinary, attacks := texts(t, "testdata/ordinary.txt"), texts(t, "testdata/attacks.txt")
	var refused, missed int
	for _, text := range ordinary {
		if tripped := payload.Scan(text, plugbus.CheckAll); tripped != 0 {
			t.Logf("refused: %q", text)
			refused++
		}
	}
	for _, text := range attacks {
		if payload.Scan(text, plugbus.CheckAll) == 0 {
			t.Logf("missed: %q", text)
			missed++
		}
	}
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	require.Contains(t, strings.Join(strings.Fields(strings.ReplaceAll(string(doc), "\n//", "\n")), " "),
		fmt.Sprintf("refuse %d of %d ordinary texts and miss %d of %d attacks", refused, len(ordinary), missed, len(attacks)))
}

// texts reads a file of quoted strings.
func texts(t testing.TB, file string) (list []string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			text, err := strconv.Unquote(line)
			require.NoError(t, err, line)
			list = append(list, text)
		}
	}
	return list
}

var (
	naiveScript  = regexp.MustCompile(`<[sS][cC][rR][iI][pP][tT](?:[\t\n\f\r />]|\z)`)
	naiveScheme  = regexp.MustCompile("(?:\\A|[\"'`=])[\\x00-\\x20\\x7f]*" + letters("javascript:"))
	naiveTag     = regexp.MustCompile(`<[a-zA-Z]`)
	naiveTagName = regexp.MustCompile(`\A<[^\t\n\f\r />]*`)
	naiveFill    = regexp.MustCompile(`\A[\t\n\f\r /]*`)
	naiveName    = regexp.MustCompile(`\A([^>][^\t\n\f\r />=]*)[\t\n\f\r ]*(=?)[\t\n\f\r ]*`)
	naiveValue   = regexp.MustCompile(`\A(?:"[^"]*(?:"|\z)|'[^']*(?:'|\z)|[^\t\n\f\r >]*)`)
	naiveHandler = regexp.MustCompile(`\A[oO][nN][a-zA-Z]+\z`)
)

// letters is a pattern for word in any case, with ignored bytes between.
func letters(word string) string {
	var b strings.Builder
	for _, r := range word {
		fmt.Fprintf(&b, `[\x00-\x20\x7f]*[%c%c]`, r, []rune(strings.ToUpper(string(r)))[0])
	}
	return b.String()
}

// naiveScan is Scan as the package comment says it, by regular expressions.
func naiveScan(s string) (tripped plugbus.ContentChecks) {
	if naiveScript.MatchString(s) {
		tripped |= plugbus.CheckScript
	}
	if naiveScheme.MatchString(s) {
		tripped |= plugbus.CheckScheme
	}
	for _, tag := range naiveTag.FindAllStringIndex(s, -1) {
		rest := s[tag[0]:]
		for rest = rest[len(naiveTagName.FindString(rest)):]; ; {
			rest = rest[len(naiveFill.FindString(rest)):]
			name := naiveName.FindStringSubmatch(rest)
			if name == nil { // The tag or the text ends.
				break
			}
			rest = rest[len(name[0]):]
			if name[2] == "" {
				continue
			}
			if naiveHandler.MatchString(name[1]) {
				return tripped | plugbus.CheckAttribute
			}
			rest = rest[len(naiveValue.FindString(rest)):]
		}
	}
	return tripped
}

// TestScanNaive compares Scan with the naive version on texts made of the parts
// that matter, and asks it twice: it keeps no state (S19).
func TestScanNaive(t *testing.T) {
	parts := rapid.SampledFrom([]string{
		"<", "<a", "<script", "</", ">", "/", "=", " ", "\n", "\t", "\"", "'", "`", "\x00", "on", "onx", "ON", "x", "1",
		"j", "J", "java", "javascript", "avascript", ":", "s", "\u017f", "\u212a", "\xff", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	})
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(parts, 0, 16).Draw(t, "parts"), "")
		want := naiveScan(s)
		require.Equal(t, want, payload.Scan(s, plugbus.CheckAll), "%q", s)
		require.Equal(t, want, payload.Scan(s, plugbus.CheckAll), "%q", s)
	})
}

func FuzzScan(f *testing.F) {
	for _, text := range append(texts(f, "testdata/ordinary.txt"), texts(f, "testdata/attacks.txt")...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.Equal(t, naiveScan(s), payload.Scan(s, plugbus.CheckAll), "%q", s)
	})
}

func TestScanAllocatesNothing(t *testing.T) {
	text := strings.Repeat("<a b='javascript:' on=1 <script- ", 100)
	require.Zero(t, testing.AllocsPerRun(10, func() { payload.Scan(text, plugbus.CheckAll) }))
}
