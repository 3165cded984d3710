<?php
// A legacy client in PHP: updates a user with the hashed HTTP call, and shows errors.
//
//   php examples/php/client.php http://127.0.0.1:8080 SECRET_KEY

[$_, $address, $key] = $argv + [1 => 'http://127.0.0.1:8080', 2 => 'secret'];

/** Sends an update of a user, with the hash of the acting username and the user id. */
function update(string $address, string $key, string $u, int $userId, array $values): void
{
    $hash = sha1($u . $userId . $key);
    $query = http_build_query(['u' => $u, 'user_id' => $userId, 'hash' => $hash] + $values);
    $options = ['http' => ['method' => 'POST', 'timeout' => 10, 'ignore_errors' => true, 'content' => '']];
    $answer = file_get_contents("$address/billing/api/user_details_update?$query", false, stream_context_create($options));
    if ($answer === false) {
        echo "error: no answer\n";
        return;
    }
    $xml = simplexml_load_string($answer);
    foreach ($xml->xpath('//success') as $success) {
        echo "updated: $success\n";
    }
    foreach ($xml->xpath('//error') as $error) {
        echo "error: $error\n";
    }
    foreach ($xml->xpath('//message') as $message) {
        echo "  $message\n";
    }
}

update($address, $key, 'admin', 5, ['city' => 'York']);
update($address, $key, 'admin', 999, ['city' => 'York']);
update($address, $key, 'admin', 5, ['warning_email_hour' => 'noon', 'call_limit' => '-7']);
update($address, 'another key', 'admin', 5, ['city' => 'York']);
