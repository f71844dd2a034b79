package security_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// mistakes returns the mistakes of an error.
func mistakes(t *testing.T, err error) []*security.PolicyError {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		e, ok := errors.AsType[*security.PolicyError](err)
		require.True(t, ok, "want a *PolicyError, got %v", err)
		return []*security.PolicyError{e}
	}
	var all []*security.PolicyError
	for _, err := range joined.Unwrap() {
		all = append(all, mistakes(t, err)...)
	}
	return all
}

// plugin returns a policy for the plugin a, whose fields begin in column 30.
func plugin(fields string) string { return `{"version":1,"plugins":{"a":{` + fields + `}}}` }

// TestStrict shows that each mistake is reported with its place and with what
// was expected. encoding/json takes duplicate and case-variant keys.
func TestStrict(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		// The text.
		{``, `p.json:1:1: this is not JSON: unexpected end of JSON input`},
		{`{"version":1`, `p.json:1:12: this is not JSON: unexpected end of JSON input`},
		{"{\n \"version\": 1,}", `p.json:2:15: this is not JSON: invalid character '}' looking for beginning of object key string`},
		{`{"version":1} {}`, `p.json:1:15: this is not JSON: invalid character '{' after top-level value`},
		{"\xEF\xBB\xBF{}", `p.json:1:1: the text begins with a byte order mark; remove it`},
		{"{\"version\":1,\n\"description\":\"\xff\"}", `p.json:2:16: this is not valid UTF-8`},
		{strings.Repeat("[", 20000), `exceeded max depth`},
		{`[]`, `p.json:1:1: expected an object, got a list`},
		{`{"version":1,"description":"\\ud800\ud83d\ude42\ud800x"}`, `p.json:1:48: \ud800 is half a character; expected both halves`},
		{`{"version":1,"description":"\uD800\u0041"}`, `p.json:1:29: \uD800 is half a character; expected both halves`},
		{`{"version":1,"description":"\udc00"}`, `p.json:1:29: \udc00 is half a character`},

		// Keys.
		{`{}`, `p.json:1:1: version: expected "version": 1`},
		{`{"version":2}`, `p.json:1:12: version: expected "version": 1, the version of this format`},
		{`{"version":1,"plugin":{}}`, `p.json:1:14: plugin: unknown field "plugin"; did you mean "plugins"?`},
		{plugin(`"trsut":"basic"`), `p.json:1:30: plugins.a.trsut: unknown field "trsut"; did you mean "trust"?`},
		{plugin(`"Trust":"basic"`), `p.json:1:30: plugins.a.Trust: unknown field "Trust"; did you mean "trust"?`},
		{plugin(`"trust":"basic","trust":"basic"`), `p.json:1:46: plugins.a.trust: "trust" is here twice; it is first in line 1, column 30`},
		{`{"version":1,"plugins":{"a":{},` + "\n" + `"a":{}}}`, `p.json:2:1: plugins.a: "a" is here twice; it is first in line 1, column 25`},
		{plugin(`"` + strings.Repeat("x", 256) + `":1`), `p.json:1:30: plugins.a: a key of 256 bytes begins with "xxxxxxxxxx"; expected at most 255`},
		{plugin(`"limits":{"x":1}`), `p.json:1:40: plugins.a.limits.x: unknown field "x"; expected one of ["messageBytes" "payloadDepth" "payloadNodes" "storeBytes" "stores" "subscriptions" "watches" "wildcards"]`},

		// Types.
		{`{"version":"1"}`, `p.json:1:12: version: expected a whole number, got "1"`},
		{`{"version":1.0}`, `p.json:1:12: version: expected a whole number, got 1.0`},
		{`{"version":99999999999999999999}`, `p.json:1:12: version: expected a whole number, got 99999999999999999999`},
		{`{"version":1,"plugins":null}`, `p.json:1:24: plugins: expected an object, got null`},
		{`{"version":1,"plugins":{"a":[1,{"b":[]}]}}`, `p.json:1:29: plugins.a: expected an object, got a list`},
		{plugin(`"canSendMessages":"yes"`), `p.json:1:48: plugins.a.canSendMessages: expected true or false, got "yes"`},
		{plugin(`"emit":["x"]`), `p.json:1:37: plugins.a.emit: expected true, false, or an object with "allow" and "deny", got a list`},
		{plugin(`"emit":{}`), `p.json:1:37: plugins.a.emit: an empty object; expected true, false, or an object with "allow" and "deny"`},
		{plugin(`"emit":{"allow":"x"}`), `p.json:1:46: plugins.a.emit.allow: expected a list, got "x"`},
		{plugin(`"emit":{"allow":["x",7]}`), `p.json:1:51: plugins.a.emit.allow[1]: expected a string, got 7`},
		{plugin(`"trust":1`), `p.json:1:38: plugins.a.trust: expected a string, got 1`},

		// Values.
		{plugin(`"trust":"root"`), `p.json:1:38: plugins.a.trust: unknown trust level "root"; expected one of ["untrusted" "basic" "trusted" "verified"]`},
		{plugin(`"priority":"urgent"`), `p.json:1:41: plugins.a.priority: unknown priority "urgent"; expected one of ["low" "normal" "high"]`},
		{`{"version":1,"levels":{"root":{}}}`, `p.json:1:31: levels.root: unknown trust level "root"`},
		{`{"version":1,"plugins":{"a.b":{}}}`, `p.json:1:25: plugins["a.b"]: invalid plugin id "a.b"`},
		{`{"version":1,"plugins":{"":{}}}`, `p.json:1:25: plugins[""]: invalid plugin id ""`},
		{`{"version":1,"plugins":{"host":{}}}`, `p.json:1:25: plugins.host: the id "host" belongs to the hub; choose another`},
		{plugin(`"emit":{"allow":["a..b"]}`), `p.json:1:47: plugins.a.emit.allow[0]: invalid pattern "a..b"`},
		{plugin(`"emit":{"allow":["a"],"deny":["a.**.b"]}`), `p.json:1:60: plugins.a.emit.deny[0]: invalid pattern "a.**.b"`},
		{plugin(`"emit":{"deny":["a"]}`), `p.json:1:37: plugins.a.emit: "deny" without "allow" allows nothing`},
		{plugin(`"emit":{"allow":["plugin:registered"]}`), `p.json:1:47: plugins.a.emit.allow[0]: "plugin:registered" matches only names of the hub, which no plugin may emit`},
		{plugin(`"send":{"allow":["b.c"]}`), `p.json:1:47: plugins.a.send.allow[0]: "b.c" matches no plugin; expected a plugin id, or "*" for all`},
		{plugin(`"send":{"deny":["b"]}`), `p.json:1:37: plugins.a.send: "deny" without "allow" allows nothing; add "allow": ["*"] or "canSendMessages": true`},
		{plugin(`"canSendMessages":false,"send":{"allow":["b"]}`), `p.json:1:61: plugins.a.send: this stands beside "canSendMessages": false; remove one of the two`},
		{plugin(`"canReceiveMessages":false,"receive":true`), `p.json:1:67: plugins.a.receive: this stands beside "canReceiveMessages": false; remove one of the two`},
		{plugin(`"canReceiveMessages":true,"receive":false`), `p.json:1:66: plugins.a.receive: false stands beside "canReceiveMessages": true; remove one of the two`},
		{plugin(`"dataAccess":{"a b":{}}`), `p.json:1:44: plugins.a.dataAccess["a b"]: invalid pattern "a b"`},
		{plugin(`"dataAccess":{"hub:x":{"create":true}}`), `p.json:1:62: plugins.a.dataAccess["hub:x"].create: "hub:x" matches only names of the hub, which no plugin may create`},
		{plugin(`"content":{"except":["**.a"]}`), `p.json:1:51: plugins.a.content.except[0]: invalid pattern "**.a"`},
		{plugin(`"shared":[""]`), `p.json:1:40: plugins.a.shared[0]: invalid pattern ""`},
		{plugin(`"inline":["a"]`), `p.json:1:40: plugins.a.inline[0]: a plugin cannot be inline with itself`},
		{plugin(`"inline":["*"]`), `p.json:1:40: plugins.a.inline[0]: invalid plugin id "*"`},

		// Numbers (S21).
		{plugin(`"rates":{"messages":{}}`), `p.json:1:50: plugins.a.rates.messages: "limit" is missing; expected a whole number, 0 to admit nothing`},
		{plugin(`"rates":{"messages":{"limit":-1}}`), `p.json:1:59: plugins.a.rates.messages.limit: -1 is out of range; expected 0 to 1000000000000`},
		{plugin(`"rates":{"messages":{"limit":1,"per":"1"}}`), `p.json:1:67: plugins.a.rates.messages.per: "1" is not a duration from "1ms" to "24h", such as "1m"`},
		{plugin(`"rates":{"messages":{"limit":1,"per":"25h"}}`), `p.json:1:67: plugins.a.rates.messages.per: "25h" is not a duration`},
		{plugin(`"rates":{"messages":{"limit":1,"per":""}}`), `p.json:1:67: plugins.a.rates.messages.per: "" is not a duration`},
		{plugin(`"rates":{"messages":{"limit":1,"burst":0}}`), `p.json:1:69: plugins.a.rates.messages.burst: 0 is out of range; expected 1 to 1000000000000`},
		{plugin(`"rates":{"messages":{"limit":0,"burst":5}}`), `p.json:1:69: plugins.a.rates.messages.burst: a burst beside a limit of 0, which admits nothing`},
		{plugin(`"limits":{"messageBytes":0}`), `p.json:1:55: plugins.a.limits.messageBytes: 0 is out of range; expected 1 to 1073741824`},
		{plugin(`"limits":{"wildcards":33}`), `p.json:1:52: plugins.a.limits.wildcards: 33 is out of range; expected 0 to 32`},
		{`{"version":1,"levels":{"basic":{"limits":{"payloadDepth":0}}}}`, `p.json:1:58: levels.basic.limits.payloadDepth: 0 is out of range; expected 1 to 1000`},

		// What nobody could enforce (S8).
		{plugin(`"networkAccess":false`), `p.json:1:46: plugins.a.networkAccess: nobody can enforce "networkAccess" on code in this process; add "bridge": "process"`},
		{plugin(`"fileSystemAccess":true`), `p.json:1:49: plugins.a.fileSystemAccess: nobody can enforce "fileSystemAccess" on code in this process`},
		{plugin(`"bridge":"http"`), `p.json:1:39: plugins.a.bridge: unknown bridge "http"; expected "process"`},
		{plugin(`"bridge":""`), `p.json:1:39: plugins.a.bridge: unknown bridge ""; expected "process"`},
	} {
		p, err := security.Parse([]byte(test.text), "p.json")
		require.ErrorContains(t, err, test.want, "%.200s", test.text)
		require.Nil(t, p)
		require.Len(t, mistakes(t, err), 1, "one mistake, one error: %v", err)
	}
}

// TestAllMistakes shows that the mistakes of a file are reported at once, in
// the order of the text, those of the JSON and those of the policy alike.
func TestAllMistakes(t *testing.T) {
	_, err := security.Parse([]byte(`{
  "version": 3,
  "plugins": {
    "b": { "emit": { "allow": ["x y"] }, "canSendMessages": 1 },
    "a": { "trsut": "basic",
           "rates": { "events": { "limit": -5, "per": "soon" } } },
    "hub": {}
  }
}`), "p.json")
	var got []string
	for _, e := range mistakes(t, err) {
		got = append(got, fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Path))
	}
	require.Equal(t, []string{
		"2:14 version",
		"4:32 plugins.b.emit.allow[0]",
		"4:61 plugins.b.canSendMessages",
		"5:12 plugins.a.trsut",
		"6:44 plugins.a.rates.events.limit",
		"6:55 plugins.a.rates.events.per",
		"7:5 plugins.hub",
	}, got)
}

// TestMistakesAreBounded shows that a hostile file cannot make an error that is
// much larger than a person could read.
func TestMistakesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	text := `{"version":1,"plugins":{"a":{"emit":{"allow":[` + strings.Repeat(`"",`, 5000) + `""],"` + long + `":1}}}}`
	_, err := security.Parse([]byte(text), "p.json")
	require.Len(t, mistakes(t, err), 101)
	require.ErrorContains(t, err, "there are 4902 more mistakes; correct these first")
	require.Less(t, len(err.Error()), 100_000)
}

func TestSizeIsBounded(t *testing.T) {
	huge := strings.Repeat(" ", security.MaxPolicyBytes) + "{}"
	_, err := security.Parse([]byte(huge), "p.json")
	require.EqualError(t, err, "p.json: the policy is larger than 4194304 bytes")
	_, err = security.Load(strings.NewReader(huge), "p.json")
	require.EqualError(t, err, "p.json: the policy is larger than 4194304 bytes")
}

func TestLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		p, err := security.LoadFile(file)
		require.NoError(t, err, file)
		require.NotEmpty(t, p.Plugins())
		require.Contains(t, p.String(), file)
	}

	_, err = security.LoadFile("testdata/none.json")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "testdata/none.json: the policy cannot be opened")

	broken := errors.New("the disk is on fire")
	_, err = security.Load(iotest.ErrReader(broken), "p.json")
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "p.json: the policy cannot be read")
}

// TestGrant shows what a policy says besides rights: the defaults, what the
// trust level gives, and what the plugin says itself.
func TestGrant(t *testing.T) {
	p, err := security.LoadFile("testdata/indexer.json")
	require.NoError(t, err)
	require.Equal(t, []string{"indexer", "screen", "stranger"}, p.Plugins())

	g, ok := p.Grant("indexer")
	require.True(t, ok)
	require.Equal(t, "keeps the word counts", g.Description)
	require.Equal(t, plugbus.Trusted, g.Trust)
	require.Equal(t, plugbus.PriorityNormal, g.Priority)
	require.Equal(t, security.Limits{
		MessageBytes: 1 << 20, PayloadNodes: 100_000, PayloadDepth: 64, Subscriptions: 1000, Wildcards: 8,
		Stores: 16, StoreBytes: 64 << 20, Watches: 100,
	}, g.Limits)

	g, _ = p.Grant("stranger")
	require.Equal(t, plugbus.Untrusted, g.Trust)
	require.Equal(t, int64(65536), g.Limits.MessageBytes, "from its level")
	require.Equal(t, 10, g.Limits.Subscriptions, "from its level")
	require.Equal(t, 64, g.Limits.PayloadDepth)

	_, ok = p.Grant("ghost")
	require.False(t, ok)

	p, err = security.LoadFile("testdata/full.json")
	require.NoError(t, err)
	fast, _ := p.Grant("fast")
	twin, _ := p.Grant("twin")
	child, _ := p.Grant("child")
	require.Equal(t, plugbus.PriorityHigh, fast.Priority)
	require.Equal(t, plugbus.PriorityLow, twin.Priority)
	require.True(t, fast.Inline(twin))
	require.True(t, twin.Inline(fast))
	require.False(t, fast.Inline(child))
	require.False(t, fast.Inline(fast))
	require.True(t, child.Process)
	require.False(t, child.Network)
	require.True(t, child.FileSystem)
	require.False(t, fast.Process || fast.Network || fast.FileSystem)

	one := security.PluginRules{Inline: []string{"b"}}
	p, err = security.Document{Version: 1, Plugins: map[string]security.PluginRules{"a": one, "b": {}}}.Policy()
	require.NoError(t, err)
	a, _ := p.Grant("a")
	b, _ := p.Grant("b")
	require.False(t, a.Inline(b), "both sides must name each other")
	require.False(t, b.Inline(a))
}

// TestDocument shows that a host can build a policy in Go, which is checked
// like a file.
func TestDocument(t *testing.T) {
	doc := security.Document{Version: 1, Plugins: map[string]security.PluginRules{
		"a": {Emit: &security.Rule{Allow: []string{"x y"}}, Rates: security.RateRules{Events: &security.RateRule{}}},
	}}
	_, err := doc.Policy()
	require.EqualError(t, err, strings.Join([]string{
		`policy: plugins.a.emit.allow[0]: invalid pattern "x y": at byte 1: U+0020 is white space; expected a name in which "*" may stand for a token, and "**" for one or more at the end`,
		`policy: plugins.a.rates.events: "limit" is missing; expected a whole number, 0 to admit nothing`,
	}, "\n"))

	for _, rule := range []security.Rule{{All: true, Allow: []string{"x"}}, {All: true, Deny: []string{}}} {
		_, err = security.Document{Version: 1, Plugins: map[string]security.PluginRules{"a": {Emit: &rule}}}.Policy()
		require.ErrorContains(t, err, "a rule has All beside lists")
	}
	_, err = security.Document{Version: 1, Plugins: map[string]security.PluginRules{"a": {Trust: 9}}}.Policy()
	require.ErrorContains(t, err, "no trust level has the number 9")
	_, err = security.Document{Version: 1, Plugins: map[string]security.PluginRules{"a": {Priority: 9}}}.Policy()
	require.ErrorContains(t, err, "no priority has the number 9")

	// encoding/json would make a pattern of this that says something else.
	_, err = security.Document{Version: 1, Description: "\xff"}.Policy()
	require.ErrorContains(t, err, "not valid UTF-8")
}

// TestDeepCopy shows that a policy shares nothing with what it was made of (S2).
func TestDeepCopy(t *testing.T) {
	rule := &security.Rule{Allow: []string{"a.*"}}
	yes := new(true)
	doc := security.Document{Version: 1, Plugins: map[string]security.PluginRules{
		"p": {
			Emit: rule, CanSendMessages: yes, Shared: []string{"a.x"},
			Inline:     []string{"q"},
			DataAccess: map[string]security.AccessRules{"s": {Read: yes}},
			Rates:      security.RateRules{Messages: &security.RateRule{Limit: new(int64(7))}},
		},
		"q": {Inline: []string{"p"}},
	}}
	p, err := doc.Policy()
	require.NoError(t, err)
	digest := p.Digest()

	rule.Allow[0] = "**"
	*yes = false
	doc.Plugins["p"].Shared[0] = "**"
	doc.Plugins["p"].Inline[0] = "z"
	doc.Plugins["p"].DataAccess["t"] = security.AccessRules{}
	*doc.Plugins["p"].Rates.Messages.Limit = 1000
	doc.Plugins["r"] = security.PluginRules{}

	require.Equal(t, digest, p.Digest())
	require.Equal(t, []string{"p", "q"}, p.Plugins())
	require.True(t, p.Explain("p", plugbus.VerbRead, "s").Allowed)
	require.True(t, p.Explain("p", plugbus.VerbEmit, "a.b").Allowed)
	require.False(t, p.Explain("p", plugbus.VerbEmit, "b").Allowed)
	a, _ := p.Grant("p")
	b, _ := p.Grant("q")
	require.True(t, a.Inline(b))
}

func TestDigest(t *testing.T) {
	parse := func(text string) string {
		p, err := security.Parse([]byte(text), "")
		require.NoError(t, err)
		return p.Digest()
	}
	require.Equal(t, parse(plugin(`"emit":true,"trust":"basic"`)), parse(plugin("\n\"trust\" : \"basic\", \"emit\": true")))
	require.NotEqual(t, parse(plugin(`"emit":true`)), parse(plugin(`"emit":false`)))
	require.NotEqual(t, parse(`{"version":1}`), security.AllowAll().Digest())
	require.NotEmpty(t, (*security.Policy)(nil).Digest())
}
