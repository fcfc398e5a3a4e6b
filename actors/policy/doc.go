// Package policy is the policy engine: it reads the deviceGroups section that says who
// may do what, and decides by it (client-device-auth spec 1.3, 2 and 3).
//
//	doc, err := policy.Parse(text, policy.Options{File: "policy.yaml"})
//	compiled := policy.Compile(doc)
//	pump := compiled.For("pump-7")                                  // once per session and revision
//	decision := pump.Evaluate("mqtt:publish", "mqtt:topic:pumps/7") // per request, no allocation
//
// Everything here is a function of its arguments. A document that cannot be understood
// in full is refused in full, and nothing that was not understood ever allows.
package policy
