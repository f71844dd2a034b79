package security

import (
	"cmp"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
)

// The ranges of what a policy may say.
const (
	maxLimit = 1_000_000_000_000
	minPer   = time.Millisecond
	maxPer   = 24 * time.Hour
)

// defaultRates hold for what a policy does not say. Bytes have no limit.
func defaultRates() [operations]*Rate {
	return [operations]*Rate{
		Messages:   {Limit: 100, Per: time.Minute, Burst: 100},
		Events:     {Limit: 6000, Per: time.Minute, Burst: 1000},
		DataAccess: {Limit: 6000, Per: time.Minute, Burst: 1000},
	}
}

// byOperation returns the rules in the order of the operations.
func (r RateRules) byOperation() [operations]*RateRule {
	return [operations]*RateRule{Messages: r.Messages, Events: r.Events, DataAccess: r.DataAccess, Bytes: r.Bytes}
}

// rate returns the rate of a rule without mistakes.
func (r RateRule) rate() *Rate {
	per, err := time.ParseDuration(cmp.Or(r.Per, "1m"))
	if err != nil || r.Limit == nil {
		return &Rate{Per: time.Minute} // cannot be: the rule was checked
	}
	rate := &Rate{Limit: *r.Limit, Per: per, Burst: *r.Limit}
	if r.Burst != nil {
		rate.Burst = *r.Burst
	}
	return rate
}

// rates checks rate rules.
func (c compiler) rates(path string, rules RateRules) {
	for i, r := range rules.byOperation() {
		if r == nil {
			continue
		}
		at := path + "." + Operation(i).String()
		switch {
		case r.Limit == nil && !c.bad[at+".limit"]:
			c.fail(at, `"limit" is missing; expected a whole number, 0 to admit nothing`)
		case r.Limit != nil && (*r.Limit < 0 || *r.Limit > maxLimit):
			c.fail(at+".limit", "%d is out of range; expected 0 to %d", *r.Limit, int64(maxLimit))
		case r.Limit != nil && *r.Limit == 0 && r.Burst != nil:
			c.fail(at+".burst", "a burst beside a limit of 0, which admits nothing; remove one of the two")
		}
		per, err := time.ParseDuration(r.Per)
		if (r.Per != "" || c.has(at+".per")) && (err != nil || per < minPer || per > maxPer) {
			c.fail(at+".per", `%q is not a duration from %q to %q, such as "1m"`, r.Per, "1ms", "24h")
		}
		if r.Burst != nil && (*r.Burst < 1 || *r.Burst > maxLimit) {
			c.fail(at+".burst", "%d is out of range; expected 1 to %d", *r.Burst, int64(maxLimit))
		}
	}
}

// A bound is one field of the limits.
type bound struct {
	field              string
	value              *int64
	least, most, usual int64
}

// bounds returns the fields in the order of the struct.
func (r LimitRules) bounds() [8]bound {
	return [8]bound{
		{"messageBytes", r.MessageBytes, 1, 1 << 30, 1 << 20},
		{"payloadNodes", r.PayloadNodes, 1, 10_000_000, 100_000},
		{"payloadDepth", r.PayloadDepth, 1, 1000, 64},
		{"subscriptions", r.Subscriptions, 0, 1_000_000, 1000},
		{"wildcards", r.Wildcards, 0, 32, 8},
		{"stores", r.Stores, 0, 100_000, 16},
		{"storeBytes", r.StoreBytes, 0, 1 << 40, 64 << 20},
		{"watches", r.Watches, 0, 100_000, 100},
	}
}

// limits checks limit rules.
func (c compiler) limits(path string, rules LimitRules) {
	for _, b := range rules.bounds() {
		if b.value != nil && (*b.value < b.least || *b.value > b.most) {
			c.fail(path+"."+b.field, "%d is out of range; expected %d to %d", *b.value, b.least, b.most)
		}
	}
}

// resolve returns the rates and limits of a plugin: its own, else those of its
// trust level, else the defaults.
func (d Document) resolve(r PluginRules) (rates [operations]*Rate, limits Limits) {
	level := d.Levels[r.Trust]
	rates = defaultRates()
	for _, rules := range []RateRules{level.Rates, r.Rates} {
		for i, rule := range rules.byOperation() {
			if rule != nil {
				rates[i] = rule.rate()
			}
		}
	}
	var n [8]int64
	own, ofLevel := r.Limits.bounds(), level.Limits.bounds()
	for i := range n {
		n[i] = *cmp.Or(own[i].value, ofLevel[i].value, &own[i].usual)
	}
	return rates, Limits{
		MessageBytes: n[0], PayloadNodes: int(n[1]), PayloadDepth: int(n[2]),
		Subscriptions: int(n[3]), Wildcards: int(n[4]),
		Stores: int(n[5]), StoreBytes: n[6], Watches: int(n[7]),
	}
}

// checks returns the content checks that are on.
func (r ContentRules) checks() plugbus.ContentChecks {
	checks := plugbus.CheckAll
	for check, on := range map[plugbus.ContentChecks]*bool{
		plugbus.CheckScript:    r.Script,
		plugbus.CheckScheme:    r.Scheme,
		plugbus.CheckAttribute: r.Attribute,
	} {
		if on != nil && !*on {
			checks &^= check
		}
	}
	return checks
}

// rateText returns the rate of an operation in words.
func rateText(op Operation, r *Rate) string {
	if r == nil {
		return fmt.Sprintf("%s: no limit", op)
	}
	return fmt.Sprintf("%s: %v", op, r)
}
