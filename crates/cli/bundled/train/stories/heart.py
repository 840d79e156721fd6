"""Plots about feelings: fear, loneliness, a quarrel, a lie, sharing, a sleepless night, jealousy."""

from .grammar import table

FEAR = {
    "rows": table("fear why step after", [
        ("the dark", "In the dark, every shadow looked like a monster.", "{f} gave {him} a small lamp. They looked behind the door and under the bed, and there was no monster at all.",
         "Now {h} could see that the dark was only quiet and soft."),
        ("thunder", "The noise was so loud that {he} hid under the bed.", "They sat by the window and counted after each flash. One, two, three, boom! It was almost like a game.",
         "When the next thunder came, {h} laughed and counted out loud."),
        ("the water", "{H} thought the water was too deep and too cold.", "First {h} put in one toe. Then {he} put in one foot. Then {he} held {f}'s hand and walked in.",
         "Soon {h} was splashing and laughing in the water."),
        ("high places", "When {he} looked down, {his} legs began to shake.", "They climbed one step, and then one more step. {f} stayed close to {him} all the time.",
         "From the top, {h} could see the whole valley. It was beautiful."),
        ("the big dog next door", "It had a very loud bark and very big teeth.", "{f} showed {him} how to hold out a hand and wait. The dog sniffed, wagged its tail and licked {h}'s hand.",
         "After that, {h} and the dog played together every day."),
        ("the first day of school", "{H} did not know anyone there.", "They walked to school together. At the door, {f} said, \"Just say hello.\" So {h} said hello to the child beside {him}.",
         "By lunch, {h} had three new friends."),
        ("the old bridge", "It creaked and shook in the wind.", "{f} went first. Then {h} took a deep breath and walked slowly, one board at a time.",
         "On the other side, {h} jumped for joy."),
        ("the wind", "At night it howled around the house like a wolf.", "They went outside and held up a long ribbon. The wind made it dance in the air.",
         "Now {h} knew that the wind only wanted to play."),
        ("singing in front of others", "{H} thought that everyone would laugh.", "{f} said they could sing together. {h} closed {his} eyes and began to sing, very softly at first.",
         "When the song was over, everyone clapped."),
    ]),
    "openings": ["{h} was afraid of {fear}. {why}", "There was one thing that {h} did not like, and that was {fear}. {why}", "{h} wanted to be brave, but {he} was afraid of {fear}. {why}"],
    "beats": [
        ["But {h} was afraid of {fear}. {why}", "But there was one thing {he} did not like. {H} was afraid of {fear}. {why}", "{h} was not afraid of many things, but {he} was very afraid of {fear}. {why}",
         "{One_day} {h} sat down and began to cry, because {he} was afraid of {fear}. {why}"],
        ["{h} told {his} friend {f} about it.", "{h}'s friend, {f}, saw that something was wrong. \"What is it?\" {fhe} asked.", "\"Why do you look so sad?\" asked {f}, who was {h}'s best friend. \"I am afraid of {fear},\" said {h}.",
         "{f} came to visit. \"You can tell me,\" said {f}. So {h} told {fhim} everything."],
        ["\"[Do not worry|It is okay|That is all right], {hv},\" said {f}. \"[Everyone is afraid of something|I was afraid once, too|We can try together|I will be with you].\"",
         "{f} did not laugh. \"I was afraid of that, too,\" {fhe} said. \"I will help you.\"", "{f} thought for a moment. \"I have an idea,\" {fhe} said. \"Come with me!\""],
        ["{step}"],
        ["{after}"],
        ["?", "\"You did it!\" said {f}. \"[You are very brave|I am so proud of you|I knew you could do it].\"", "\"I did it!\" said {h}. \"{fear} is not so bad!\"", "\"Thank you for helping me,\" said {h}. \"That is what friends are for,\" said {f}."],
    ],
    "morals": ["{h} learned that being brave means trying even when you are afraid.", "{h} was not afraid anymore.", "Now {h} knew that fear gets smaller when you share it with a friend."],
}

LONELY = {
    "rows": table("wish game", [
        ("someone to play with", "They played hide and seek until the sun went down."), ("a friend", "They ran and jumped and rolled in the grass."),
        ("a best friend", "They built a little house of sticks and leaves."), ("someone to talk to", "They talked and laughed the whole afternoon."),
        ("a friend to share {his} games with", "They made boats from leaves and watched them sail away."), ("somebody to laugh with", "They told each other funny stories and laughed until their bellies hurt."),
    ]),
    "openings": ["{h} was lonely. {H} had no one to play with.", "{h} wanted to have a friend.", "{h} was new in [town|the village|the valley], and {he} did not know anyone."],
    "beats": [
        ["But {h} was lonely. {H} wanted {wish}.", "But {h} had no one to play with. More than anything, {he} wanted {wish}.", "Sometimes {h} felt sad, because {he} had no friends. {H} wished for {wish}."],
        ["{One_day} {h} went to {place} and sat down {spot}. {H} heard a [small|soft|quiet] sound. Someone was crying.", "{One_day} {h} saw {a_f} sitting alone {spot}.",
         "{One_day} {h} met {a_f} near {place}. The {fkind} looked [shy|sad|lonely], too.", "{One_day} {h} was walking to {place} when {he} saw someone new. It was {a_f}."],
        ["\"Hello,\" said {h}. \"[What is your name|Why are you all alone|Are you okay|Would you like to play]?\"", "{h} was a little shy, but {he} said, \"Hi! [Do you want to play with me|Can I sit with you]?\"",
         "{h} took a deep breath and walked over. \"Hello!\" {he} said. \"I am {hv}.\""],
        ["\"I have no one to play with,\" said {f}. \"Me too!\" said {h}. \"[Let's play together|We can be friends]!\"", "{f} looked up and smiled. \"[I would like that|Yes, please|I was hoping you would ask],\" {fhe} said.",
         "The {fkind} [smiled|nodded]. \"Nobody ever asked me before,\" {fhe} said."],
        ["{game}", "{h} shared {his} {food} with {f}, and then they played a game. {game}", "{h} showed {f} {his} {c_toy}, and they took turns. {game}"],
        ["When it was time to go home, {f} asked, \"Will you come back tomorrow?\" \"Of course,\" said {h}.", "\"Can we play again tomorrow?\" asked {h}. \"Yes!\" said {f}. \"Every day!\"", "From then on, they met every day {spot}.",
         "\"I am so glad I met you,\" said {f}. \"I am glad, too,\" said {h}."],
    ],
    "morals": ["{h} was not lonely anymore.", "{h} learned that a kind word can make a new friend.", "Sometimes all you have to do is say hello."],
}

QUARREL = {
    "rows": table("over alone together", [
        ("the {c_toy}", "But it was no fun to play alone.", "They took turns with the {toy}, and it was twice as much fun."),
        ("who should go first", "Neither of them wanted to play anymore.", "They played the game again, and this time they counted to ten and went together."),
        ("the last of the {food}", "Now nobody wanted to eat anything.", "They cut everything in half, and each of them had a piece."),
        ("which game to play", "{h} kicked a stone and felt bad.", "First they played {h}'s game, and then they played {f}'s game."),
        ("the blue paint", "{h} tried to paint, but {his} picture looked sad.", "They painted one big picture together, with a blue sky and a blue sea."),
        ("the best seat by the window", "The house was very quiet.", "They moved over a little, and there was room for both of them."),
        ("the swing", "The swing hung still, and nobody was on it.", "{h} pushed {f} on the swing, and then {f} pushed {h}."),
    ]),
    "openings": ["{h} and {f} did everything together. But today they had a fight about {over}.", "{h} was angry. {H} and {f} could not agree about {over}."],
    "beats": [
        ["{h} had a good friend, {a_f}. {One_day} they began to fight over {over}.", "{h} and {his} friend {f} always played together. But {one_day} they had a fight about {over}.", "{One_day} {h} and {his} friend {f} were playing near {place}. Then they began to argue over {over}."],
        ["\"[It is mine|I want it|Me first|You are not fair]!\" shouted {h}. \"No, [it is mine|I want it|me first|you are not fair]!\" shouted {f}.", "{h} pushed {f}, and {f} began to cry.", "They both got very angry, and they shouted at each other."],
        ["{f} went home. {alone}", "{h} ran away and sat down {spot}. {alone}", "They turned their backs and did not talk. {alone}"],
        ["{p} saw {h} and asked, \"What happened?\" {h} told {phim} about the fight. \"[Maybe you can say sorry|A friend is worth more than that|What would make it right]?\" said {P}.",
         "{h} thought about {f}. {H} missed {his} friend.", "Then {h} thought, \"I was not nice to {f}. I want to say sorry.\"", "It began to rain, and {h} felt even worse. \"I miss {f},\" {he} thought."],
        ["{h} went to {f} and said, \"I am sorry. I was not kind.\"", "So {h} ran to {f}'s house and knocked on the door. \"I am sorry,\" {he} said.", "{h} found {f} near {place}. \"I am sorry that I shouted,\" said {h}."],
        ["\"I am sorry, too,\" said {f}, and they hugged. {together}", "{f} smiled. \"Let's not fight anymore,\" {fhe} said. {together}", "\"I was wrong, too,\" said {f}. \"Let's be friends again.\" {together}"],
    ],
    "morals": ["{h} and {f} learned that it is better to share than to fight.", "They were friends again, and that was the best thing of all.", "It is good to say sorry."],
}

TRUTH = {
    "hero": "human",
    "rows": table("act broke fix", [
        ("playing with a ball in the house", "the blue vase", "They picked up the pieces together and glued them one by one."),
        ("running around the table", "a big glass bowl", "They swept the floor and found another bowl."),
        ("jumping on the bed", "the lamp", "They bought a new lamp, and {h} helped to pay for it with {his} coins."),
        ("climbing on a chair to get the cookies", "the cookie jar", "They cleaned the floor and baked new cookies."),
        ("throwing stones near the house", "a window", "The next day, {h} helped to put in the new glass."),
        ("dancing in the kitchen", "{his} mother's favorite cup", "They made a new cup from clay, and {h} painted flowers on it."),
        ("chasing the cat", "the flower pot", "They found a new pot and put the flower into it with fresh soil."),
    ]),
    "openings": ["{h} was {act}, even though {he} knew that it was not a good idea. Crash! {H} broke {broke}.", "Crash! {h} looked at the floor. {H} had broken {broke}."],
    "beats": [
        ["{One_day} {h} was {act}. [Crash!|Bang!|Oh no!] {H} broke {broke}.", "{One_day} {h} was {act} when [there was a loud crash|something fell down]. It was {broke}!", "\"Do not play in here,\" said {P}. But {h} did not listen. {H} was {act}, and {he} broke {broke}."],
        ["{h} was [scared|worried|afraid]. {H} hid [the pieces under the bed|behind the door|in {his} room].", "\"Oh no,\" said {h}. \"What should I do?\" {H} thought about running away.", "{h} wanted to [hide|say that the cat did it|tell nobody].", ],
        ["Then {P} came in and asked, \"What happened here?\"", "Soon {P} came home and saw it. \"Who did this?\" {phe} asked.", "{P} looked at {the_broke} and then at {h}. \"Do you know anything about this?\" {phe} asked."],
        ["{h} looked at {his} feet. {His} face was red. \"It was me,\" {he} said. \"I am sorry.\"", "At first, {h} said nothing. But {his} tummy felt bad. \"I did it,\" {he} said at last. \"I am very sorry.\"",
         "{h} began to cry. \"I broke it,\" {he} said. \"It was an accident.\"", "\"I do not know,\" said {h}. But {he} felt bad about the lie. \"No, that is not true,\" {he} said. \"I broke it.\""],
        ["{P} was not angry. \"[Thank you for telling me the truth|I am glad you told me|That was brave of you],\" {phe} said.", "{P} gave {him} a hug. \"[It takes courage to tell the truth|Things can break, but I love you|We can fix it together],\" {phe} said."],
        ["{fix}"],
    ],
    "morals": ["{h} learned that it is always best to tell the truth.", "From then on, {h} was more careful.", "{h} felt much better, because {he} had told the truth."],
}

SHARE = {
    "rows": table("mine hide", [
        ("a big basket of {food}", "under {his} bed"), ("a bag full of {food}", "behind a rock"), ("the biggest, sweetest pie", "behind {his} back"), ("a jar of honey", "on the top shelf"),
        ("a warm loaf of bread", "under a cloth"), ("a bowl of {food}", "under the table"), ("a box of [candy|crayons|blocks]", "in a drawer"),
    ]),
    "openings": ["{h} had {mine}, and {he} did not want to share.", "{h} was [very |]happy, because {he} had {mine}."],
    "beats": [
        ["{One_day} {h} [got|found|had] {mine}. \"This is all for me!\" {he} said.", "{One_day} {p} gave {h} {mine}. \"Share it with your friends,\" said {P}. But {h} did not want to share."],
        ["Then {a_f} came along. \"[May I have some|Can I have a little|I am so hungry. Can you share with me], please?\" {fhe} asked.", "{f} saw it and said, \"That looks [good|nice|wonderful]! Can we share?\"", "{f} had nothing. \"Could you give me just a little?\" asked {f}."],
        ["\"No,\" said {h}. \"It is mine.\" {H} hid it {hide}.", "{h} shook {his} head. \"I need it all,\" {he} said, and hid it {hide}.", "\"I do not have any,\" said {h}. That was not true. It was hidden {hide}."],
        ["{f} was sad and walked away.", "{f} looked down and went home without a word.", "A tear ran down {f}'s face."],
        ["{h} sat alone {spot}. [But it was not fun to be alone.|Somehow, {he} was not happy.] {H} thought of {f}'s sad face.", "That night, {h} had a tummy ache, because {he} took too much. {H} thought, \"It is not good to keep everything.\"",
         "Later, {h} fell down and hurt {his} knee. {f} ran over and helped {him} up. {h} felt ashamed. \"You are kind to me, and I was not kind to you,\" {he} said."],
        ["{h} ran to {f} and said, \"I am sorry. Please take half.\"", "So {h} took everything to {f}. \"Here,\" {he} said. \"It is for both of us.\"", "{h} went to find {f}. \"I want to share with you,\" {he} said."],
        ["{f} smiled. They sat down together {spot}, and it was [twice as nice|much better than before].", "\"Thank you!\" said {f}. They shared it all, down to the last bit.", "{f} was so happy that {fhe} gave {h} a hug."],
    ],
    "morals": ["{h} learned that sharing makes everything better.", "Sharing with a friend is the best thing of all.", "After that, {h} always shared with {his} friends."],
}

SLEEP = {
    "night": True, "quiet_end": True,
    "rows": table("try_a try_b last", [
        ("counted sheep, but the sheep would not stay still", "drank a cup of warm milk", "{P} sang a soft song about the moon"), ("turned to the left and to the right", "hugged {his} teddy bear", "{P} told {him} a story about a sleepy little star"),
        ("closed {his} eyes very tightly", "listened to the wind in the trees", "{P} stroked {his} head and hummed"), ("looked at the ceiling", "counted the stars in the window", "{P} tucked {him} in with the softest blanket"),
    ]),
    "openings": ["It was late, and the moon was high in the sky, but {h} was still awake.", "{h} could not sleep."],
    "beats": [
        ["One night, {h} could not sleep. The moon was shining into the room.", "One night, {h} was wide awake. It was dark, and everyone else was asleep.", "It was time for bed, but {h} was not tired at all."],
        ["First {he} {try_a}. Then {he} {try_b}. But {he} was still awake."],
        ["\"{P}?\" called {h}. \"I cannot sleep.\"", "{h} got up and went to find {p}. \"I can't sleep,\" {he} said.", "Then {P} came in. \"Are you still awake?\" {phe} asked."],
        ["\"Let us look at the stars,\" said {P}. They stood at the window. The stars looked like tiny lamps.", "\"Even the [birds|flowers|bees] are sleeping now,\" said {P}. \"And the [moon|night] is watching over you.\"", "{P} smiled and sat down on the bed. \"Tell me about your day,\" {phe} said. So {h} did."],
        ["{last}, and {h}'s eyes grew heavy."],
        ["\"Good night, {hv},\" said {P}. But {h} was already asleep.", "{h} yawned a big yawn. \"Good night,\" {he} said, and then {he} was asleep.", "{h} began to dream of [flying over the clouds|a boat on a quiet lake|a field of flowers]."],
    ],
    "morals": ["And the moon shone over the quiet house.", "All was quiet, and all was well."],
}

SICK = {
    "rows": table("gift made", [
        ("soup", "{h} cut the carrots, and {P} stirred the pot."), ("flowers", "{h} picked yellow ones and white ones and tied them with a ribbon."), ("a card", "{h} drew a big sun and wrote \"Get well soon\" on it."),
        ("a warm blanket", "{h} folded it and put it in a basket."), ("tea with honey", "{h} carried the pot very carefully."), ("a new book", "{h} put it in a bag with a bow on top."),
    ]),
    "openings": ["{h} was worried, because {f} was sick.", "{h} wanted to make {f} feel better. {fHe} was sick.", "\"Where is {f} today?\" asked {h}. \"{fHe} is sick,\" said {P}."],
    "beats": [
        ["{h} had a friend, {a_f}. {One_day} {f} did not come out to play. {fHe} was sick.", "{One_day} {h} went to play with {his} friend {f}. But {f} was in bed. {fHe} had a cold.", "{One_day} {h} heard that {his} friend {f} was sick."],
        ["\"Poor {f},\" said {h}. \"[I want to help.|What can I do?]\"", "{h} was sad for {his} friend. {H} asked {p} what to do.", "\"Achoo!\" said {f}. \"I feel so hot and tired.\""],
        ["\"We can bring {fhim} {gift},\" said {P}. {made}", "Then {h} had an idea. {H} would bring {fhim} {gift}. {made}"],
        ["{h} walked [all the way |slowly |]to {f}'s house and knocked on the door.", "On the way it began to rain, but {h} did not stop.", "It was a long way, but {h} did not mind."],
        ["\"I brought you {gift},\" said {h}. {f} sat up and smiled. \"You are so kind,\" {fhe} said.", "\"This is for you,\" said {h}. \"{gift}! Thank you!\" said {f}. \"I feel better already.\""],
        ["{h} sat by the bed and [told funny stories|read a book to {fhim}|sang a little song].", "They talked quietly until {f} fell asleep.", "They played a quiet game together."],
        ["The next day, {f} was [much better|well again], and they played outside.", "After a few days, {f} was well again, and {fhe} ran to {h}'s house to say thank you."],
    ],
    "morals": ["A good friend is the best medicine.", "{h} was glad that {he} could help.", "{h} learned that small gifts can bring great joy."],
}

PLOTS = {"fear": FEAR, "lonely": LONELY, "quarrel": QUARREL, "truth": TRUTH, "share": SHARE, "sleep": SLEEP, "sick": SICK}
