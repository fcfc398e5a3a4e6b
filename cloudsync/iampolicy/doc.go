// Package iampolicy judges IAM policy documents: what the policies of a role let it do,
// and whom the role's trust policy lets assume it. IoT policies, which are another
// language under the same name, are judged by cloudsync/iotpolicy.
//
// A document is read strictly: a word that is not known here makes it malformed, an
// element that is given twice does too. An explicit Deny wins over any Allow, and what no
// statement allows is denied. Nothing here does any I/O or knows a clock.
package iampolicy
