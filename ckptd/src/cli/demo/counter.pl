# A program that has to be right about its memory: 2048 blocks of 4 KiB, of which each round rewrites 20. It knows the sum
# of all, adds them up again each round, and says in a file how far it is.
use strict;
use warnings;

my $started = time . "-$$";
my ($count, $sum) = (0, 0);
my @blocks = map { my $byte = $_ % 256; $sum += $byte; chr($byte) x 4096 } 0 .. 2047;
while (1) {
    $count++;
    for my $step (0 .. 19) {
        my $at = ($count * 20 + $step) % 2048;
        my $old = ord(substr($blocks[$at], 0, 1));
        my $new = ($old + $count) % 256;
        $sum += $new - $old;
        substr($blocks[$at], 0, 4096) = chr($new) x 4096;
    }
    my $found = 0;
    for my $block (@blocks) {
        my $byte = ord($block);
        $found += $byte;
        die "block damaged\n" if substr($block, 4095, 1) ne chr($byte);
    }
    die "sum is $found, not $sum\n" if $found != $sum;
    open(my $out, '>', $ARGV[0]) or die "$ARGV[0]: $!\n";
    print $out "$count $sum $started\n";
    close($out) or die "$ARGV[0]: $!\n";
    select(undef, undef, undef, 0.02);
}
