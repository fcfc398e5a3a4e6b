package config

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// int32Of reads a scalar as Greengrass does (client-device-auth spec 1.1): numbers
// keep their low 32 bits (fractions are cut off and saturate, as a Java double
// does), booleans are 1 and 0, text is read up to where it stops being a number, and
// what cannot be read is 0. plain is false where the result is not simply the number
// written.
func int32Of(n *yaml.Node) (value int32, plain bool) {
	switch n.Tag {
	case "!!bool":
		if boolOf(n) {
			return 1, false
		}
		return 0, false
	case "!!int":
		whole, ok := new(big.Int).SetString(strings.ReplaceAll(n.Value, "_", ""), 0)
		if !ok {
			return 0, false
		}
		value = int32(uint32(new(big.Int).And(whole, big.NewInt(math.MaxUint32)).Uint64()))
		return value, whole.IsInt64() && whole.Int64() == int64(value)
	case "!!float":
		return saturate(n.Value)
	default:
		value = int32(prefixNumber(n.Value))
		return value, strconv.FormatInt(int64(value), 10) == n.Value
	}
}

// saturate cuts the fraction off a floating point number and holds it at the ends of
// the range; not-a-number is 0.
func saturate(text string) (value int32, plain bool) {
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	switch infinite := strings.TrimPrefix(strings.ToLower(text), "+"); {
	case infinite == ".inf":
		return math.MaxInt32, false
	case infinite == "-.inf":
		return math.MinInt32, false
	case err != nil && !math.IsInf(f, 0), math.IsNaN(f):
		return 0, false
	case f >= math.MaxInt32:
		return math.MaxInt32, f == math.MaxInt32
	case f <= math.MinInt32:
		return math.MinInt32, f == math.MinInt32
	}
	return int32(f), f == math.Trunc(f)
}

// prefixNumber is the nucleus' reading of a number in text: signs and spaces first,
// 0x, 0b and a leading 0 choose the base, the first character that is no digit ends
// it, overflow wraps. "60 s" is 60, "" and "ten" are 0.
func prefixNumber(text string) int64 {
	negative, base := false, int64(10)
	at := 0
prefix:
	for ; at < len(text); at++ {
		switch c := text[at]; {
		case c == ' ' || c == '+':
		case c == '-':
			negative = !negative
		case c == '0':
			base = 8
		case base == 8 && (c == 'x' || c == 'X'):
			base, at = 16, at+1
			break prefix
		case base == 8 && (c == 'b' || c == 'B'):
			base, at = 2, at+1
			break prefix
		default:
			break prefix
		}
	}
	var value int64
	for ; at < len(text); at++ {
		digit := digitOf(text[at])
		if digit >= base {
			break
		}
		value = value*base + digit
	}
	if negative {
		return -value
	}
	return value
}

func digitOf(c byte) int64 {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0')
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10
	default:
		return 99
	}
}

// boolOf reads a scalar as Greengrass does: real booleans, numbers that are not 0,
// and exactly the texts below are true; everything else is false.
func boolOf(n *yaml.Node) bool {
	switch n.Tag {
	case "!!bool": // YAML knows true, True and TRUE
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		value, _ := int32Of(n)
		return value != 0
	}
	switch n.Value {
	case "true", "yes", "on", "t", "y", "Y":
		return true
	default:
		return false
	}
}

// boolSpelled says whether text is one of the words people write for a boolean. Any
// other text is a misunderstanding that deserves a warning.
func boolSpelled(n *yaml.Node) bool {
	if n.Tag != "!!str" {
		return true
	}
	switch n.Value {
	case "true", "yes", "on", "t", "y", "Y", "false", "no", "off", "f", "n", "N":
		return true
	default:
		return false
	}
}
